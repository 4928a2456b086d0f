// Runs verifiers for Node over real deliveries. Reads a JSON list of cases from standard input, prints a JSON list of
// verdicts: null where the verifier accepted, else why it did not.
//
// A case: {"verifier", "secret", "headers": {lower-case name: value}, "body": base64}
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';

const here = fileURLToPath(new URL('.', import.meta.url));
const require = createRequire(join(process.env.POSTRIDER_NODE_MODULES, 'package.json'));
const { Webhook } = require('standardwebhooks');

const athenatext = new Function(
  'require',
  `${readFileSync(join(here, 'snippets', 'athenatext.js'), 'utf8')}\nreturn verify;`,
)(require);

let runs = 0;
const verifiers = {
  standardwebhooks({ secret, headers, body }) {
    new Webhook(secret).verify(body, headers);
  },
  athenatext({ secret, headers, body }) {
    if (!athenatext(body, headers['athena-signature'], secret)) throw new Error('verify() returned false');
  },
  'athenatext-next'({ secret, headers, body }) {
    if (!athenatext(body, headers['athena-signature-next'], secret)) throw new Error('verify() returned false');
  },
  async athenty({ secret, headers, body }) {
    // The snippet is the middle of somebody's handler: it finds `req` and `SECRET` around it.
    globalThis.req = { headers, rawBody: body };
    globalThis.SECRET = secret;
    await import(`./snippets/athenty.mjs?run=${(runs += 1)}`);
  },
  async 'athenty-next'({ secret, headers, body }) {
    const newer = { ...headers, 'x-athenty-signature': headers['x-athenty-signature-next'] };
    await verifiers.athenty({ secret, headers: newer, body });
  },
};

const verdicts = [];
for (const given of JSON.parse(await text(process.stdin))) {
  try {
    await verifiers[given.verifier]({ ...given, body: Buffer.from(given.body, 'base64') });
    verdicts.push(null);
  } catch (error) {
    verdicts.push(String(error));
  }
}
console.log(JSON.stringify(verdicts));
