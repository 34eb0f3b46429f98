// A certified OpenID provider, in TLS, with people who sign in by their name alone.
//
// Arguments: the directory with `node_modules`, and settings as JSON. It prints its port when it listens, and a line for
// everything that it was asked. A line on its standard input makes it sign with a new key; it prints `rotated` then.
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';

const [directory, text] = process.argv.slice(2);
const settings = JSON.parse(text);
const load = (path) => import(pathToFileURL(`${directory}/node_modules/${path}`));
const { Provider } = await load('oidc-provider/lib/index.js');
const { exportJWK, generateKeyPair } = await load('jose/dist/webapi/index.js');

let count = 0;
const newKey = async () => {
  const { privateKey } = await generateKeyPair(settings.algorithm, { extractable: true });
  count += 1;
  return { ...await exportJWK(privateKey), kid: `key-${count}`, alg: settings.algorithm, use: 'sig' };
};

const make = async (port) => new Provider(`https://localhost:${port}`, {
  clients: [settings.client],
  jwks: { keys: [await newKey()] },
  scopes: ['openid', 'groups'],
  claims: { openid: ['sub'], email: ['email', 'email_verified'], groups: ['groups'] },
  conformIdTokenClaims: settings.conform,
  cookies: { keys: ['a key of the test'] },
  features: {
    devInteractions: { enabled: true },
    deviceFlow: { enabled: true },
    backchannelLogout: { enabled: true },
    rpInitiatedLogout: { enabled: true },
  },
  // The back channel leads to the test itself.
  fetch: (url, options) => fetch(url, { ...options, dispatcher: undefined }),
  findAccount: async (_, id) => ({ accountId: id, claims: async () => ({ sub: id, ...settings.people[id] }) }),
});

let answer;
const server = createServer(
  { cert: readFileSync(settings.certificate), key: readFileSync(settings.key) },
  (request, response) => {
    console.log(`${request.method} ${request.url.split('?')[0]}`);
    answer(request, response);
  },
);
server.listen(0, '127.0.0.1', async () => {
  const { port } = server.address();
  const begin = async () => {
    const provider = await make(port);
    provider.on('server_error', (_, error) => console.error(error));
    provider.on('backchannel.error', (_, error) => console.error(error));
    answer = provider.callback();
  };
  await begin();
  console.log(`port ${port}`);
  for await (const _ of createInterface({ input: process.stdin })) {
    await begin();
    console.log('rotated');
  }
});
