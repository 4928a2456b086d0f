// A journey: a test with a server, a receiver and a browser of its own. It fails as well if a page has had a problem that
// the journey did not look for (see watch.mjs). There is no way to skip one.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { Site, closeBrowser } from './site.mjs';

after(closeBrowser);

/** `settings`: of the server (variables of the environment), or a function of the site that gives them. */
export function journey(name, run, { settings = {}, timeout = 240_000 } = {}) {
  test(name, { timeout }, async (t) => {
    const site = new Site();
    try {
      await site.start(settings);
      await run(site, t);
      assert.deepEqual(site.problems, [], 'pages had problems');
    } catch (error) {
      await site.keep(name);
      throw error;
    } finally {
      await site.stop();
    }
  });
}
