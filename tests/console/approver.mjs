// An approver at their own desktop: follows the link that the demo opens, makes a passkey, reads what waits, approves it.
import { existsSync } from "node:fs";
import { createRequire } from "node:module";

const require = createRequire(`${process.env.HOLDPOINT_BROWSER}/`);
const { chromium } = require("playwright-core");
const executablePath = ["/usr/bin/chromium", "/usr/bin/chromium-browser"].find(existsSync);
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
try {
  const page = await browser.newPage();
  page.setDefaultTimeout(30_000);
  const debug = await page.context().newCDPSession(page);
  await debug.send("WebAuthn.enable");
  await debug.send("WebAuthn.addVirtualAuthenticator", {
    options: { protocol: "ctap2", transport: "internal", hasResidentKey: true, hasUserVerification: true, isUserVerified: true },
  });
  await page.goto(process.argv[2]);
  await page.getByRole("button", { name: "Make a passkey" }).click();
  await page.locator(".requests a.card").first().click();
  await page.locator(".ask .statement").getByText("DROP TABLE").waitFor();
  await page.getByLabel(/Why/).fill("approved in a browser");
  await page.getByRole("button", { name: "Approve" }).click();
  await page.getByText(/Request \w+: approved/).waitFor();
} finally {
  await browser.close();
}
