// The checks of this stage find what they are there for: each on a page that was broken on purpose.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { overflowing, axeFindings, stands, unreachable } from '../harness/checks.mjs';
import { ran, brokenOut } from '../harness/hostile.mjs';
import { Site } from '../harness/site.mjs';
import { until } from '../harness/until.mjs';
import '../harness/journey.mjs';

test('a broken page is found out', { timeout: 60_000 }, async () => {
  const site = new Site();
  try {
    await site.start({});
    const { page } = await site.admin();
    assert.deepEqual(await stands(page, 'as it is'), []);
    const broken = async (change) => {
      await page.goto(`${site.url}/settings/profile`);
      await page.setViewportSize({ width: 360, height: 700 });
      await page.evaluate(change);
    };
    const inMain = (html) => `document.querySelector('main').insertAdjacentHTML('beforeend', ${JSON.stringify(html)})`;

    await broken(inMain('<div class="card">' + 'W'.repeat(99) + '</div>').replace('card', 'card nowrap'));
    assert.notDeepEqual(await overflowing(page), [], 'a line that is too long');
    await broken(inMain('<a href="/settings"></a>'));
    assert.match((await axeFindings(page)).join(), /link-name/);
    await broken(inMain('<button tabindex="-1">Only for mice</button>'));
    assert.match((await unreachable(page)).join(), /Only for mice/);
    await broken(inMain('<img src="x" onerror="globalThis.__ran = 1">'));
    assert.notDeepEqual(await brokenOut(page), [], 'markup that was not ours');
    await broken('globalThis.__ran = 1');
    assert.ok(await ran(page));

    const expected = [/policy: script-src/, /policy: style-src/, /console: .*on purpose/, /exception: .*on purpose/, /dialog: on purpose/];
    await broken(`
      document.body.append(Object.assign(document.createElement('script'), { textContent: '1' }));
      document.querySelector('main').setAttribute('style', 'color: red');
      console.error('an error on purpose');
      setTimeout(() => { throw new Error('on purpose'); });
      setTimeout(() => alert('on purpose'));`);
    for (const problem of expected) {
      await until(`${problem} is seen`, () => site.problems.some((one) => problem.test(one)), 5000);
    }
  } finally {
    await site.stop();
  }
});
