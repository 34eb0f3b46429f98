// The console in a real browser: what a person sees and presses. Reads what to do as JSON from its argument, prints what
// it saw as JSON lines, and fails with words. Passkeys are Chromium's virtual authenticator's.
import { mkdirSync } from "node:fs";
import { createRequire } from "node:module";

const plan = JSON.parse(process.argv[2]);
const require = createRequire(`${plan.modules}/`);
const { chromium } = require("playwright-core");
const axe = require("fs").readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const tell = (said) => console.log(JSON.stringify(said));

const browser = await chromium.launch({ executablePath: plan.chromium, args: ["--no-sandbox"] });
const context = await browser.newContext({ viewport: plan.viewport, colorScheme: plan.scheme, hasTouch: plan.viewport.width < 500 });
const page = await context.newPage();
page.setDefaultTimeout(15_000);
const wrong = [];
page.on("console", (message) => {
  // A refused decision is answered with an error that the page shows.
  if (message.type() === "error" && !/status of 4\d\d/.test(message.text())) wrong.push(message.text());
});
page.on("pageerror", (error) => wrong.push(String(error)));
page.on("request", (request) => {
  if (!request.url().startsWith(plan.origin) && !request.url().startsWith("data:")) wrong.push(`asks ${request.url()}`);
});

const debug = await context.newCDPSession(page);
await debug.send("WebAuthn.enable");
await debug.send("WebAuthn.addVirtualAuthenticator", {
  options: { protocol: "ctap2", transport: "internal", hasResidentKey: true, hasUserVerification: true, isUserVerified: true },
});

mkdirSync(plan.pictures, { recursive: true });
let pictures = 0;
// A picture, and whether everybody can use what it shows.
async function look(name) {
  pictures += 1;
  await page.screenshot({ path: `${plan.pictures}/${plan.name}-${pictures}-${name}.png`, fullPage: true });
  // The page's own policy forbids a script of ours: an isolated world has none.
  const { frameTree } = await debug.send("Page.getFrameTree");
  const { executionContextId } = await debug.send("Page.createIsolatedWorld", { frameId: frameTree.frame.id });
  await debug.send("Runtime.evaluate", { contextId: executionContextId, expression: axe });
  const { result } = await debug.send("Runtime.evaluate", {
    contextId: executionContextId,
    awaitPromise: true,
    returnByValue: true,
    expression: "axe.run({ runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa'] }).then((found) => found.violations.map((one) => `${one.id} (${one.impact}): ${one.nodes.map((node) => node.html).slice(0, 3).join(' ')}`))",
  });
  if (!Array.isArray(result.value)) throw new Error(`axe did not run on ${name}: ${JSON.stringify(result)}`);
  for (const one of result.value) wrong.push(`${name}: ${one}`);
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  if (wide > 0) wrong.push(`${name} is ${wide} pixels wider than the screen`);
}

const steps = {
  async enrol() {
    await page.goto(plan.origin + plan.link);
    await look("enrol");
    await page.getByRole("button", { name: "Make a passkey" }).click();
    await page.getByRole("heading", { name: "Nothing waits for you" }).waitFor();
    await look("inbox-empty");
  },
  async signin() {
    await page.getByRole("button", { name: "Sign out" }).click();
    await page.getByRole("button", { name: "Sign in with a passkey" }).waitFor();
    await look("signin");
    await page.goto(`${plan.origin}/grants`);
    await page.getByRole("button", { name: "Sign in with a passkey" }).click();
    await page.waitForURL(`${plan.origin}/grants`);
    await look("grants-empty");
    await page.getByRole("link", { name: "Inbox", exact: true }).click();
    await page.getByRole("heading", { name: "Nothing waits for you" }).waitFor();
  },
  // A request appears by itself, is opened by keyboard, and approved.
  async approve() {
    tell({ ready: "approve" });
    await page.locator(".requests a.card").first().waitFor();
    await look("inbox");
    await page.keyboard.press("j");
    await page.keyboard.press("Enter");
    await page.locator("form.decide").waitFor();
    const statement = await page.locator(".ask .statement").innerText();
    await look("request");
    await page.getByRole("button", { name: "Approve" }).click();
    await page.getByText("The rule requires a reason").waitFor();
    await page.getByLabel(/Why/).fill("seen and meant");
    await page.getByRole("button", { name: "Approve" }).click();
    await page.getByText(/Request \w+: approved/).waitFor();
    await look("approved");
    tell({ statement });
  },
  async deny() {
    // What arrives after the page was made and before it listens is not missed: it listens only once somebody waits.
    await page.route("**/api/v1/events", async (route) => {
      while (!(await (await page.request.get(`${plan.origin}/inbox`)).text()).includes("card")) await page.waitForTimeout(50);
      await route.continue();
    });
    await page.goto(plan.origin);
    tell({ ready: "deny" });
    await page.locator(".requests a.card").first().click();
    await page.unrouteAll();
    const scripts = await page.locator("main script, main img[onerror], main iframe").count();
    tell({ statement: await page.locator(".ask .statement").innerText(), scripts });
    await look("hostile");
    await page.getByRole("button", { name: "Deny" }).click();
    await page.getByText(/Request \w+: denied/).waitFor();
    await look("denied");
  },
  // Somebody else decides while the page is open.
  async overtaken() {
    tell({ ready: "overtaken" });
    await page.getByRole("link", { name: "Inbox", exact: true }).click();
    await page.locator(".requests a.card").first().click();
    await page.locator("form.decide").waitFor();
    tell({ open: page.url() });
    await page.getByText(/Request \w+: denied/).waitFor();
    await look("overtaken");
  },
  // What people do beside deciding: they talk, lend their word, break the glass, and answer for it.
  async talk() {
    tell({ ready: "talk" });
    await page.locator(".requests a.card").first().waitFor();
    await page.keyboard.press("j");
    await page.keyboard.press("Enter");
    await page.locator("form.decide").waitFor();
    await page.locator("#reason").fill("half a sentence");
    await page.getByText("Say or ask something").click();
    await page.getByLabel("It is").selectOption("question");
    await page.getByLabel("Words", { exact: true }).fill("<b>which</b> release?");
    await page.getByRole("button", { name: "Say it" }).click();
    await page.getByText("ada asks: <b>which</b> release?").waitFor();
    if ((await page.locator("#reason").inputValue()) !== "half a sentence") throw new Error("what was typed is gone");
    tell({ steps: await page.locator(".steps").innerText() });
    await page.getByText("Break the glass").first().click();
    await page.getByLabel("What is the emergency?").fill("the database burns");
    await look("talk");
    const release = page.getByRole("button", { name: /Release it alone/ });
    await release.click();
    await release.click();
    await page.getByText(/Request \w+: approved/).waitFor();
    await page.goto(`${plan.origin}/reviews`);
    await page.getByText("the database burns").waitFor();
    await look("reviews");
    await page.goto(`${plan.origin}/delegations`);
    await page.getByLabel("Whom").fill("bob");
    await page.getByRole("button", { name: "Lend it" }).click();
    await page.getByText("bob for ada").waitFor();
    await look("delegations");
    const end = page.getByRole("button", { name: /End it/ });
    await end.click();
    await end.click();
    await page.getByText("Nobody decides in another's stead.").waitFor();
    tell({ talked: true });
  },
  async others() {
    for (const [path, name] of [["/live", "live"], ["/sessions", "sessions"], ["/policies", "policies"], ["/workloads", "workloads"], ["/audit", "audit"]]) {
      const answer = await page.goto(plan.origin + path);
      if (answer.status() !== 200) throw new Error(`${path} answered ${answer.status()}`);
      await look(name);
    }
    await page.goto(`${plan.origin}/sessions`);
    await page.locator("td a").first().click();
    await page.getByRole("heading", { name: /Session/ }).waitFor();
    await look("session");
    tell({ transcript: await page.locator("main").innerText() });
    // The player: to the hold, and from there on to the end.
    await page.getByRole("button", { name: /Next hold/ }).click();
    const held = await page.locator("tr.here").innerText();
    if (!/held as/.test(held)) throw new Error(`the next hold is ${held}`);
    if ((await page.locator("tr.ahead").count()) < 1) throw new Error("nothing lies ahead of the hold");
    await page.getByLabel("Speed").selectOption("64");
    await page.getByRole("button", { name: "Play" }).click();
    await page.locator("tr.ahead").first().waitFor({ state: "detached" });
    await look("played");
    await page.goto(`${plan.origin}/sessions?only=refused`);
    tell({ refused: await page.locator("tbody tr").count() });
  },
};

try {
  for (const step of plan.steps) await steps[step]();
  tell({ wrong, pictures });
} catch (error) {
  await page.screenshot({ path: `${plan.pictures}/${plan.name}-failed.png`, fullPage: true }).catch(() => {});
  tell({ failed: String(error.stack ?? error), wrong, at: page.url(), page: await page.locator("body").innerText().catch(() => "") });
  process.exitCode = 1;
} finally {
  await browser.close();
}
