// Where a journey takes place: a server, a receiver, and people at their browsers.
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium, chromiumPath, root } from './installed.mjs';
import { Person } from './person.mjs';
import { Product } from './product.mjs';
import { Receiver } from './receiver.mjs';
import { Server } from './server.mjs';
import { until } from './until.mjs';
import { Watch } from './watch.mjs';

/** How long a page may take on a machine that is busy with other things. */
const PATIENCE = 30_000;

let launched;

/** The one browser of this process. As root, as in containers, Chromium has no sandbox. */
async function browser() {
  launched ??= chromium.launch({
    executablePath: chromiumPath,
    args: process.getuid() === 0 ? ['--no-sandbox'] : [],
    // What is fetched from elsewhere fails loudly, whatever the machine's settings are.
    proxy: { server: 'http://127.0.0.1:9', bypass: '127.0.0.1, localhost' },
  });
  return launched;
}

export async function closeBrowser() {
  await (await launched)?.close();
}

export class Site {
  #people = [];
  #started = [];
  #products = [];
  #watch = new Watch(() => [this.url, ...this.#products.map(({ origin }) => origin)]);
  #folder;

  /** `settings`: of the server (see there), or a function of the site that gives them. */
  async start(settings) {
    this.receiver = this.with(await Receiver.start());
    const given = typeof settings === 'function' ? await settings(this) : settings;
    this.server = this.with(await Server.start(given));
  }

  /** Has something that was started for this journey stopped with it. */
  with(started) {
    this.#started.push(started);
    return started;
  }

  get url() {
    return this.server.publicUrl;
  }

  /** A directory of the journey's own. */
  get folder() {
    this.#folder ??= mkdtempSync(join(tmpdir(), 'postrider-browser-'));
    return this.#folder;
  }

  /** Somebody's product, which shows the portal in a frame; what goes wrong there goes wrong with us. */
  async product() {
    const product = this.with(await Product.start());
    this.#products.push(product);
    return product;
  }

  get problems() {
    return this.#watch.problems;
  }

  /** Waits for a problem that was provoked: it is none then. */
  async provoked(pattern) {
    const { problems } = this.#watch;
    await until(`${pattern} is reported`, () => problems.some((one) => pattern.test(one)));
    this.#watch.problems = problems.filter((one) => !pattern.test(one));
  }

  /** Somebody with a browser of his own; `how`: Playwright's options for it. */
  async person(how = {}) {
    // What moves cannot be clicked, and without a script the browser may never say that it has come to rest.
    const context = await (await browser()).newContext({ baseURL: this.url, reducedMotion: 'reduce', ...how });
    context.setDefaultTimeout(PATIENCE);
    await this.#watch.over(context);
    const person = new Person(this, context, await context.newPage());
    this.#people.push(person);
    return person;
  }

  /** The first admin, who has set up the deployment by the printed link. */
  async admin(how) {
    const person = await this.person(how);
    await person.setUp(await this.server.setUpLink());
    return person;
  }

  /** The server's last words, and a picture of every open page, for whoever looks for what went wrong. */
  async keep(name) {
    const place = join(root, 'target', 'browser', 'failures');
    mkdirSync(place, { recursive: true });
    console.error(this.server?.said.split('\n').slice(-15).join('\n'));
    for (const [index, person] of this.#people.entries()) {
      const path = join(place, `${name.replace(/\W+/g, '-')}-${index + 1}.png`);
      await person.page.screenshot({ path }).then(() => console.error(`see ${path}`), () => {});
    }
  }

  async stop() {
    for (const person of this.#people) await person.context.close();
    for (const one of this.#started.reverse()) await one.stop();
    if (this.#folder) rmSync(this.#folder, { recursive: true, force: true });
  }
}
