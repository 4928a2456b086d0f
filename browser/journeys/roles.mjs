// What each role sees and may do: the table of docs/console.md, in the page and by requests past it.
import assert from 'node:assert/strict';
import { journey } from '../harness/journey.mjs';

const ROLES = ['Viewer', 'Member', 'Admin', 'Owner'];

/** From the least role on: what the page offers, and what a request past the page is answered. */
const MAY = [
  { least: 'Viewer', sees: ['Webhooks', 'Members', 'Profile'], get: ['/settings/webhooks', '/settings/members'] },
  { least: 'Member', offers: ['Test'], post: [['test', {}], ['retry', {}]] },
  {
    least: 'Admin',
    sees: ['API keys', 'Audit log'],
    offers: ['Add Webhook', 'Edit', 'Rotate secret', 'Delete'],
    get: ['/settings/api-keys', '/settings/audit-log', '/settings/webhooks/new', '/settings/members/invite'],
    post: [
      ['toggle', { active: 'yes' }],
      ['/settings/webhooks/new', { url: 'http://127.0.0.1:50000/hook', dialect: 'standard' }],
      ['/settings/api-keys/new', { name: 'CI', role: 'viewer', mode: 'live' }],
      ['/settings/members/invite', { email: 'new@example.com', role: 'viewer' }],
    ],
  },
];

const reaches = (role, least) => ROLES.indexOf(role) >= ROLES.indexOf(least);

async function offered(person) {
  await person.webhooks();
  const menus = person.page.locator('details.actions');
  for (const menu of await menus.all()) await menu.evaluate((details) => { details.open = true; });
  const names = await person.page.locator('main a, main button').allInnerTexts();
  return names.map((name) => name.trim());
}

for (const role of ROLES) {
  journey(`a ${role} sees and does what the table says`, async (site) => {
    const ada = await site.admin();
    site.receiver.answer = { status: 500, body: 'no' };
    const { id } = await ada.addWebhook({ url: site.receiver.url(), name: 'CRM' });
    await site.receiver.next();
    await ada.visit(`/settings/webhooks?open=${id}`);
    const delivery = (await ada.page.locator('.webhook-history a').first().getAttribute('href')).split('/').at(-1);
    const person = await ada.colleague(role);
    const calls = {
      test: `/settings/webhooks/${id}/test`,
      toggle: `/settings/webhooks/${id}/toggle`,
      retry: `/settings/webhooks/${id}/deliveries/${delivery}/retry`,
    };

    const offers = await offered(person);
    const places = await person.page.locator('nav.places a').allInnerTexts();
    for (const { least, sees = [], offers: wanted = [], get = [], post = [] } of MAY) {
      const may = reaches(role, least);
      for (const place of sees) assert.equal(places.includes(place), may, `${role} sees ${place}`);
      for (const name of wanted) assert.equal(offers.includes(name), may, `${role} is offered ${name}`);
      for (const path of get) assert.equal(await person.get(path), may ? 200 : 403, `${role} GET ${path}`);
      for (const [call, fields] of post) {
        const status = await person.post(calls[call] ?? call, fields);
        assert.equal(status, may ? 303 : 403, `${role} POST ${call}`);
      }
    }
    assert.ok(!places.includes('Users'), 'what is the platform\'s is not shown');
    assert.equal(await person.get('/settings/users'), 404, 'and does not exist');
  });
}

journey('only an Owner makes an Owner, and the last one stays', async (site) => {
  const ada = await site.admin();
  const admin = await ada.colleague('Admin');
  await admin.visit('/settings/members/invite');
  assert.equal(await admin.page.getByRole('radio', { name: /^Owner/ }).count(), 0, 'not offered');
  assert.equal(await admin.post('/settings/members/invite', { email: 'x@example.com', role: 'owner' }), 422);

  await ada.visit('/settings/members');
  assert.equal(await ada.page.getByText('x@example.com').count(), 0, 'nor done past the page');
  const row = ada.page.locator('tr', { hasText: 'ada@example.com' });
  await row.getByRole('link', { name: /^Edit/ }).click();
  await ada.page.getByRole('radio', { name: /^Viewer/ }).check();
  await ada.button('Change the role').click();
  await ada.page.locator('#role-error').filter({ hasText: 'The last Owner stays' }).waitFor();
});

journey('a form without the token, or from elsewhere, changes nothing', async (site) => {
  const ada = await site.admin();
  const { id } = await ada.addWebhook({ url: site.receiver.url(), name: 'CRM' });
  await ada.webhooks();
  const path = `/settings/webhooks/${id}/toggle`;
  const form = { csrf: await ada.csrf(), active: 'no' };
  const send = (fields, headers = {}) => ada.context.request.post(site.url + path, { form: fields, headers, maxRedirects: 0 });
  assert.equal((await send({ active: 'no' })).status(), 403, 'no token');
  assert.equal((await send({ ...form, csrf: `${form.csrf}x` })).status(), 403, 'another token');
  assert.equal((await send(form, { 'sec-fetch-site': 'cross-site' })).status(), 403, 'from another site');
  assert.equal((await send(form, { origin: 'http://evil.example' })).status(), 403, 'from another origin');
  await ada.page.reload();
  assert.equal(await ada.row('CRM').getByRole('switch').getAttribute('aria-checked'), 'true');
  assert.equal((await send(form)).status(), 303, 'with the token it is done');
});
