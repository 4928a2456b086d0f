// The built binary on an empty data directory, on a free port of 127.0.0.1.
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { binary } from './installed.mjs';
import { until } from './until.mjs';

export async function freePort() {
  const server = createServer();
  await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  const { port } = server.address();
  await new Promise((resolve) => { server.close(resolve); });
  return port;
}

export class Server {
  #home = mkdtempSync(join(tmpdir(), 'postrider-browser-'));
  #adminKey = `admin-${randomBytes(16).toString('hex')}`;
  #said = '';

  /** `settings`: variables of the environment beside those that every server here has, or a function of its port. */
  static async start(settings = {}) {
    const server = new Server();
    // Somebody else may take the port between our look and its bind.
    for (let tries = 1; ; tries += 1) {
      try {
        await server.#start(await freePort(), settings);
        return server;
      } catch (error) {
        if (tries === 3) {
          await server.stop();
          throw error;
        }
      }
    }
  }

  async #start(port, settings) {
    this.url = `http://127.0.0.1:${port}`;
    this.#said = '';
    const given = typeof settings === 'function' ? settings(port) : settings;
    this.publicUrl = given.POSTRIDER_PUBLIC_URL ?? this.url;
    const environment = {
      PATH: process.env.PATH,
      HOME: this.#home,
      POSTRIDER_LISTEN: `127.0.0.1:${port}`,
      POSTRIDER_DATA: join(this.#home, 'data'),
      POSTRIDER_ADMIN_KEY: this.#adminKey,
      POSTRIDER_EGRESS_ALLOW: '127.0.0.0/8',
      ...given,
    };
    const process_ = spawn(binary, ['serve'], { env: environment, stdio: ['ignore', 'pipe', 'pipe'] });
    this.process = process_;
    this.ended = new Promise((resolve) => { process_.once('exit', resolve); });
    for (const stream of [process_.stdout, process_.stderr]) {
      stream.setEncoding('utf8').on('data', (text) => { this.#said += text; });
    }
    // Nobody else would end it.
    process.once('exit', () => process_.kill('SIGKILL'));
    await until('the server is ready', async () => {
      if (process_.exitCode !== null) throw new Error(`the server ended at once:\n${this.#said}`);
      return fetch(`${this.url}/readyz`).then((reply) => reply.ok, () => false);
    });
  }

  get home() {
    return this.#home;
  }

  get said() {
    return this.#said;
  }

  /** What `serve` prints for whoever comes first. */
  async setUpLink() {
    return until('the link to set up is printed', () => this.#said.match(/set up\s+(http\S+)/)?.[1]);
  }

  /** A call of the API, by the admin key unless another is given. */
  async call(method, path, body, key = this.#adminKey) {
    const headers = { authorization: `Bearer ${key}`, 'content-type': 'application/json' };
    const sent = body === undefined ? undefined : JSON.stringify(body);
    const reply = await fetch(this.url + path, { method, headers, body: sent });
    const text = await reply.text();
    if (!reply.ok) throw new Error(`${method} ${path}: ${reply.status} ${text}`);
    return text ? JSON.parse(text) : undefined;
  }

  /** A call of the data gateway: by the admin key, or with the headers of a client. */
  async gateway(method, path, body, headers = { 'x-athena-admin-key': this.#adminKey }) {
    const sent = { method, headers: { 'content-type': 'application/json', ...headers }, body: JSON.stringify(body) };
    const reply = await fetch(this.url + path, sent);
    const text = await reply.text();
    if (!reply.ok) throw new Error(`${method} ${path}: ${reply.status} ${text}`);
    return JSON.parse(text).data;
  }

  async stop() {
    this.process?.kill('SIGKILL');
    await this.ended;
    rmSync(this.#home, { recursive: true, force: true });
  }
}
