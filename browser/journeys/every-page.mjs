// Every page, as each kind of reader sees it: nothing in the console, nothing reported, nothing that axe finds serious, no
// overflow, everything reachable by the keyboard. The pages are those that links lead to; what no link leads to is named.
import assert from 'node:assert/strict';
import { nothing, stands } from '../harness/checks.mjs';
import { demo, settings } from '../harness/demo.mjs';
import { journey } from '../harness/journey.mjs';
import { walk } from '../harness/walk.mjs';

/** Some of what links must lead to where there is everything. */
const KNOWN = [
  'overview', 'webhooks', 'webhooks/new', 'webhooks/*/deliveries/*', 'events/*', 'deliveries/replays/new', 'event-types/type?name',
  'portal', 'receivers/*/requests/*', 'clients/*', 'routes/*/edit', 'hostnames/*/remove', 'tenants/*/edit', 'system', 'profile',
];

/** Pages that no link leads to. */
const BESIDE = ['/settings/design'];

async function checked(person, options) {
  const found = [];
  const kinds = await walk(person, async (kind) => found.push(...await stands(person.page, kind)), options);
  console.log(`${kinds.length} pages: ${kinds.join(' ')}`);
  nothing(found);
  return kinds;
}

journey('every page of a busy deployment, as its admin', async (site) => {
  const ada = await demo(site);
  const kinds = await checked(ada, { beside: BESIDE });
  for (const known of KNOWN) assert.ok(kinds.includes(`/settings/${known}`), `${known} was visited`);
}, { settings, timeout: 900_000 });

journey('every page of an empty deployment, as its admin', async (site) => {
  await checked(await site.admin());
}, { timeout: 600_000 });

journey('every page as a viewer sees it', async (site) => {
  const ada = await site.admin();
  await ada.addWebhook({ url: site.receiver.url(), name: 'CRM' });
  await site.receiver.next();
  await checked(await ada.colleague('Viewer'));
}, { timeout: 600_000 });

journey('every page for somebody who is not logged in', async (site) => {
  const ada = await site.person();
  const link = await site.server.setUpLink();
  const found = [];
  const look = async (path, status = 200) => {
    assert.equal((await ada.visit(path)).status(), status);
    found.push(...await stands(ada.page, path));
  };
  await look(link);
  await look('/login');
  await look('/settings/nothing-like-that', 404);
  const admin = await site.admin();
  const invitation = await admin.invite('grace@example.com', 'Member', 'Grace');
  await look(invitation);
  await look('/setup/used-up', 404);
  await admin.visit('/settings/nothing-like-that');
  found.push(...await stands(admin.page, 'an error'));
  nothing(found);
});
