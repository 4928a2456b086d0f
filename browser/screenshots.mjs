// Makes docs/images: every page of a demo deployment, light, dark and on a phone.
//
// Pages are found by walking; SCENES are moments that no link leads to. Where the pictures show addresses of the receiver
// on this machine, the names that they stand for are written instead (demo.mjs), and times are the reader's in Berlin.
import { mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Clock } from './harness/clock.mjs';
import { DAY, chef, demo, disguises, settings } from './harness/demo.mjs';
import { palettes, root } from './harness/installed.mjs';
import { Site, closeBrowser } from './harness/site.mjs';
import { walk } from './harness/walk.mjs';

const PLACE = join(root, 'docs', 'images');
const DESK = { width: 1280, height: 800 };
const PHONE = { width: 360, height: 740 };
/** Long pages are cut here. */
const TALLEST = 1280;
const COLOURS = 128;
const READER = { locale: 'en-GB', timezoneId: 'Europe/Berlin' };
/** Kinds of pages that show nothing of their own: lists that are narrowed, or later pages of them. */
const SAME = [/^\/settings$/, /^\/settings\/design$/, /[?&](catalogue|client|cursor|event|from|page|period|status|webhook)\b/];

const LOOKS = [
  ['light', DESK, 'light'],
  ['dark', DESK, 'dark'],
  ['phone', PHONE, 'light'],
];

/** Writes the names that addresses on this machine stand for. */
async function disguise(page, pairs) {
  await page.evaluate((pairs) => {
    const told = (text) => pairs.reduce((so_far, [real, shown]) => so_far.replaceAll(real, shown), text);
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
      const shown = told(texts.currentNode.data);
      if (shown !== texts.currentNode.data) texts.currentNode.data = shown;
    }
    for (const field of document.querySelectorAll('input, textarea')) field.value = told(field.value);
    document.activeElement?.blur();
  }, pairs);
}

/** The same picture in few colours, which is a third of the size and looks the same. */
function small(png) {
  const picture = palettes.decode(png);
  return Buffer.from(palettes.encode(palettes.toRGBA8(picture), picture.width, picture.height, COLOURS));
}

async function shoot(page, name, pairs) {
  for (const [look, size, colorScheme] of LOOKS) {
    await page.setViewportSize(size);
    await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
    await disguise(page, pairs);
    const height = Math.min(TALLEST, await page.evaluate(() => document.documentElement.scrollHeight));
    const clip = { x: 0, y: 0, width: size.width, height: Math.max(size.height, height) };
    writeFileSync(join(PLACE, `${name}-${look}.png`), small(await page.screenshot({ clip, fullPage: true })));
  }
}

/** What a page's files are called: `webhooks-edit`, and `members-one` beside `members`. */
function fileName(kind) {
  const named = kind.replace('/settings/', '').replace(/\*$/, 'one').split(/[/?&*]+/).filter(Boolean).join('-');
  if (shot.has(named)) throw new Error(`${kind} and ${shot.get(named)} would have the same picture ${named}`);
  shot.set(named, kind);
  return named;
}

const shot = new Map();

async function scenes(site, maya, pairs) {
  const stranger = await site.person();
  await stranger.visit('/login');
  await shoot(stranger.page, 'log-in', pairs);

  await maya.webhooks();
  const id = await maya.row('Northline Couriers').getAttribute('id');
  await maya.visit(`/settings/webhooks?open=${id}`);
  await shoot(maya.page, 'webhooks-history', pairs);
  await maya.page.locator('.webhook-history tr', { hasText: 'Failed' }).getByRole('link').first().click();
  await maya.at(/^Delivery/);
  await shoot(maya.page, 'webhooks-deliveries-failed', pairs);

  await maya.addWebhook({ url: site.receiver.url('/refunds'), name: 'Refunds desk', events: ['order.canceled'] });
  await shoot(maya.page, 'webhooks-secret', [...pairs, [site.receiver.url('/refunds'), 'https://refunds.fernhill.example/hooks']]);

  await maya.visit('/settings/events?text=calypso');
  await shoot(maya.page, 'events-search', pairs);
  await maya.visit('/settings/deliveries?status=failed');
  await shoot(maya.page, 'deliveries-failed', pairs);
  await maya.link('Send these again…').click();
  await maya.at('Send again');
  await maya.page.getByRole('button', { name: /^Replay / }).click();
  await maya.page.locator('#progress .pill.good').waitFor();
  await shoot(maya.page, 'deliveries-replays-one', pairs);

  await maya.visit('/settings/routes?q=catalogue');
  await maya.link('catalogue').click();
  await maya.link('Edit').click();
  await maya.button('Preview what it opens').click();
  await maya.page.getByText('Nothing is saved yet').waitFor();
  await shoot(maya.page, 'routes-preview', pairs);
}

/** Pages that show something of their own, each once. */
async function all(person, pairs, from) {
  await walk(person, async (kind) => {
    if (!SAME.some((same) => same.test(kind))) await shoot(person.page, fileName(kind), pairs);
  }, { from });
}

async function first(site) {
  const stranger = await site.person();
  await stranger.visit(await site.server.setUpLink());
  await shoot(stranger.page, 'set-up', []);
  await stranger.context.close();
}

const site = new Site();
try {
  rmSync(PLACE, { recursive: true, force: true });
  mkdirSync(PLACE, { recursive: true });
  const clock = site.with(new Clock(DAY));
  await site.start((site_) => ({ ...settings(site_), ...clock.environment }));
  await first(site);
  const maya = await demo(site, READER, clock);
  const pairs = disguises(site);
  await all(maya, pairs, ['/settings']);
  await all(await chef(site, READER), pairs, ['/portal']);
  await scenes(site, maya, pairs);
  for (const problem of site.problems) console.error(problem);
} finally {
  await site.stop();
  await closeBrowser();
}
const sizes = readdirSync(PLACE).map((name) => statSync(join(PLACE, name)).size);
console.log(`${sizes.length} pictures, ${(sizes.reduce((a, b) => a + b, 0) / 2 ** 20).toFixed(1)} MB, in docs/images`);
if (site.problems.length) process.exitCode = 1;
