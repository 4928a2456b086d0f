// A real identity provider (the certified package oidc-provider) over plain HTTP on loopback, with its own pages to log in
// and to consent.
import { createServer } from 'node:http';
import { oidcProvider } from './installed.mjs';
import { freePort } from './server.mjs';

export class Provider {
  client = 'postrider';
  secret = 'a secret between two servers';
  #callbacks = [];

  /**
   * `people`: claims by the name that is typed to log in. `sparse`: as the standard has it, the ID token has no more than the
   * subject, and the rest is told at the userinfo endpoint; else it has the claims of its scopes, as most of the big ones do.
   */
  static async start(people, { sparse = false } = {}) {
    const provider = new Provider();
    const port = await freePort();
    provider.issuer = `http://127.0.0.1:${port}`;
    const Implementation = await oidcProvider();
    const client = {
      client_id: provider.client,
      client_secret: provider.secret,
      // Read at each request: Postrider's port is known later than ours.
      get redirect_uris() { return provider.#callbacks; },
      response_types: ['code'],
      grant_types: ['authorization_code'],
    };
    const configuration = {
      clients: [],
      adapter: Memory.with({ Client: { find: async (id) => (id === client.client_id ? { ...client } : undefined) } }),
      claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name'] },
      conformIdTokenClaims: sparse,
      cookies: { keys: ['one of the provider'] },
      // Said, since the provider complains otherwise.
      ttl: { Interaction: 600, Session: 600, Grant: 600, AccessToken: 600, IdToken: 600 },
      pkce: { required: () => true },
      findAccount: async (_, name) => ({ accountId: name, claims: async () => ({ sub: name, ...people[name] }) }),
    };
    const warn = console.warn;
    console.warn = () => {};
    provider.server = createServer(new Implementation(provider.issuer, configuration).callback());
    console.warn = warn;
    await new Promise((resolve) => { provider.server.listen(port, '127.0.0.1', resolve); });
    return provider;
  }

  serves(url) {
    this.#callbacks = [`${url}/login/oidc/callback`];
  }

  /** On the provider's pages: logs in and consents. */
  async consent(page, name) {
    await page.locator('[name=login]').fill(name);
    await page.locator('[name=password]').fill('any will do');
    await page.getByRole('button', { name: /sign-in/i }).click();
    await page.getByRole('button', { name: /continue/i }).click();
  }

  async refuse(page) {
    await page.getByRole('link', { name: /cancel/i }).click();
  }

  async stop() {
    this.server.closeAllConnections();
    await new Promise((resolve) => { this.server.close(resolve); });
  }
}

/** What the provider keeps, in memory. */
class Memory {
  static #kept = new Map();

  static with(others) {
    return class extends Memory {
      constructor(model) {
        super(model);
        Object.assign(this, others[model]);
      }
    };
  }

  constructor(model) {
    this.model = model;
  }

  #key(id) {
    return `${this.model}:${id}`;
  }

  async upsert(id, payload) {
    Memory.#kept.set(this.#key(id), payload);
  }

  async find(id) {
    return Memory.#kept.get(this.#key(id));
  }

  async findByUid(uid) {
    return [...Memory.#kept.entries()].find(([key, one]) => key.startsWith(`${this.model}:`) && one.uid === uid)?.[1];
  }

  async consume(id) {
    Memory.#kept.get(this.#key(id)).consumed = Math.floor(Date.now() / 1000);
  }

  async destroy(id) {
    Memory.#kept.delete(this.#key(id));
  }

  async revokeByGrantId(grant) {
    for (const [key, one] of Memory.#kept) if (one.grantId === grant) Memory.#kept.delete(key);
  }
}
