// A browser without eyes: it keeps cookies, follows, and sends every form of a provider as the person that it is.
//
// Arguments: where it starts, who it is (`-`: somebody who refuses), and the file with its cookies. It prints the first
// address that is not the provider's, with the form that it would post there on a second line, or `done` where a page has
// no more forms.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';

let [at, who, jar] = process.argv.slice(2);
const home = new URL(at).origin;
const cookies = new Map(existsSync(jar) ? JSON.parse(readFileSync(jar)) : []);
const end = (said) => {
  writeFileSync(jar, JSON.stringify([...cookies]));
  console.log(said);
  process.exit(0);
};
// What stands for letters in HTML.
const plain = (text) => text?.replace(/&#(?:x([0-9a-f]+)|([0-9]+));/gi, (_, hex, number) =>
  String.fromCodePoint(hex ? parseInt(hex, 16) : Number(number))).replaceAll('&amp;', '&');
let form;
for (let step = 0; step < 30; step += 1) {
  const url = new URL(at, home);
  if (url.origin !== home) end(form ? `${url.href}\n${form}` : url.href);
  const response = await fetch(url, {
    redirect: 'manual',
    method: form ? 'POST' : 'GET',
    body: form,
    headers: { accept: 'text/html', cookie: [...cookies].map(([name, value]) => `${name}=${value}`).join('; ') },
  });
  for (const cookie of response.headers.getSetCookie()) {
    const [, name, value] = /^([^=]+)=([^;]*)/.exec(cookie);
    if (value) cookies.set(name, value); else cookies.delete(name);
  }
  const to = response.headers.get('location');
  if (to) {
    [at, form] = [to, undefined];
    continue;
  }
  const page = await response.text();
  if (response.status >= 400) {
    console.error(response.status, page);
    process.exit(1);
  }
  if (form?.has('abort')) end('done');
  const action = /<form[^>]*action="([^"]*)"/.exec(page);
  if (!action) end('done');
  form = new URLSearchParams();
  for (const [input] of page.matchAll(/<input[^>]*>/g)) {
    const field = (name) => plain(new RegExp(`\\b${name}="([^"]*)"`).exec(input)?.[1]);
    if (!field('name')) continue;
    form.append(field('name'), field('value') || (field('type') === 'hidden' ? '' : who));
  }
  if (page.includes('logoutForm')) form.set('logout', 'yes');
  if (who === '-' && page.includes('deviceConfirmForm')) {
    form.delete('confirm');
    form.set('abort', 'yes');
  }
  at = plain(action[1]);
  if (who === '-' && at.includes('/interaction/')) [at, form] = [`${at}/abort`, undefined];
}
console.error('it goes round in circles');
process.exit(1);
