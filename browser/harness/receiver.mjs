// A real endpoint: keeps what comes in, answers what it is told to, and verifies with the published snippet.
import { createHmac } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { root } from './installed.mjs';
import { until } from './until.mjs';

const require = createRequire(import.meta.url);

/** Why lines of a snippet, the middle of somebody's handler, reject a delivery; `null`: they accept it. */
export function rejection(snippet, secret, { headers, body }) {
  const lines = snippet.replace(/^import (\w+) from '(\w+)'$/gm, "const $1 = require('$2')");
  try {
    new Function('require', 'req', 'SECRET', lines)(require, { headers, rawBody: body }, secret);
    return null;
  } catch (error) {
    return String(error);
  }
}

/** As Athenty's document prints it. */
export const published = readFileSync(join(root, 'conformance', 'snippets', 'athenty.mjs'), 'utf8');

/** Whether the published snippet accepts it; the header can be another one than the snippet's. */
export function verifies(delivery, secret, header = 'x-athenty-signature') {
  const headers = { ...delivery.headers, 'x-athenty-signature': delivery.headers[header] };
  return headers['x-athenty-signature'] !== undefined && rejection(published, secret, { ...delivery, headers }) === null;
}

/** Whether it is signed as Standard Webhooks has it. */
export function verifiesStandard({ headers, body }, secret) {
  const key = Buffer.from(secret.replace('whsec_', ''), 'base64');
  const signed = `${headers['webhook-id']}.${headers['webhook-timestamp']}.${body}`;
  const expected = createHmac('sha256', key).update(signed).digest('base64');
  return headers['webhook-signature'] === `v1,${expected}`;
}

export class Receiver {
  deliveries = [];
  /** What requests are answered with, or a function of the path that says so. */
  answer = { status: 200, body: '{"received":true}' };

  static async start() {
    const receiver = new Receiver();
    receiver.server = createServer((request, response) => receiver.#take(request, response));
    await new Promise((resolve) => { receiver.server.listen(0, '127.0.0.1', resolve); });
    return receiver;
  }

  async #take(request, response) {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const { status, body, type = 'application/json' } = typeof this.answer === 'function' ? this.answer(request.url) : this.answer;
    this.deliveries.push({ path: request.url, headers: request.headers, body: Buffer.concat(chunks), status });
    response.writeHead(status, { 'content-type': type }).end(body);
  }

  url(path = '/hooks/postrider') {
    return `http://127.0.0.1:${this.server.address().port}${path}`;
  }

  /** The first delivery after the first `after` ones that is wanted. */
  async next(after = 0, wanted = () => true) {
    const found = () => this.deliveries.slice(after).find(wanted);
    return until('a delivery arrives', found);
  }

  async stop() {
    this.server.closeAllConnections();
    await new Promise((resolve) => { this.server.close(resolve); });
  }
}
