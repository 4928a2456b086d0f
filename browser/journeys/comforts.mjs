// What the script adds to pages that work without it.
import assert from 'node:assert/strict';
import { journey } from '../harness/journey.mjs';

journey('times are in the reader\'s zone, and exactly UTC on hover', async (site) => {
  const ada = await site.admin({ locale: 'en-GB', timezoneId: 'Asia/Kathmandu' });
  await ada.visit('/settings/profile');
  const time = ada.page.locator('time').first();
  const [machine, exact] = [await time.getAttribute('datetime'), await time.getAttribute('title')];
  assert.match(exact, /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} UTC$/);
  assert.equal(new Date(exact.replace(' UTC', 'Z').replace(' ', 'T')).getTime(), new Date(machine).getTime());
  const there = new Intl.DateTimeFormat('en-GB', { timeZone: 'Asia/Kathmandu', timeStyle: 'short' }).format(new Date(machine));
  assert.ok((await time.innerText()).includes(there), `${await time.innerText()} is ${there} in Kathmandu`);
});

journey('without a script times are in UTC, and say so', async (site) => {
  const ada = await site.admin({ javaScriptEnabled: false, timezoneId: 'Asia/Kathmandu' });
  await ada.visit('/settings/profile');
  assert.match(await ada.page.locator('time').first().innerText(), /UTC$/);
});

journey('events are searched and chosen from the catalogue', async (site) => {
  const ada = await site.admin();
  const [tenant] = (await site.server.call('GET', '/v1/tenants')).items;
  for (const [name, group] of [['order.placed', 'Orders'], ['order.paid', 'Orders'], ['invoice.issued', 'Invoices']]) {
    await site.server.call('PUT', `/v1/event-types/${name}?tenant_id=${tenant.id}`, { group, description: `It is ${name}.` });
  }
  await ada.visit('/settings/webhooks/new');
  await ada.page.getByLabel('URL').fill(site.receiver.url());
  const shown = async () => (await ada.page.locator('#events label:visible code').allInnerTexts()).sort();
  assert.deepEqual(await shown(), ['invoice.issued', 'order.paid', 'order.placed']);
  await ada.page.getByLabel('Search events').fill('PAID');
  assert.deepEqual(await shown(), ['order.paid']);
  await ada.page.getByRole('checkbox', { name: /order\.paid/ }).check();
  await ada.page.getByLabel('Search events').fill('');
  await ada.button('Save').click();
  await ada.shownSecret();
  const [webhook] = (await site.server.call('GET', `/v1/webhooks?tenant_id=${tenant.id}`)).items;
  assert.deepEqual(webhook.events, ['order.paid']);
});

journey('menus open, close by Escape, and give the focus back', async (site) => {
  const ada = await site.admin();
  const summary = ada.page.locator('details.person summary');
  await summary.focus();
  await ada.page.keyboard.press('Enter');
  await ada.link('Profile and sessions').waitFor();
  await ada.page.keyboard.press('Tab');
  assert.equal(await ada.page.evaluate(() => document.activeElement.textContent), 'Profile and sessions');
  await ada.page.keyboard.press('Escape');
  await ada.link('Profile and sessions').waitFor({ state: 'hidden' });
  assert.ok(await summary.evaluate((element) => element === document.activeElement));
  await ada.page.keyboard.press('Enter');
  await ada.link('Profile and sessions').waitFor();
  await ada.page.locator('main').click({ position: { x: 5, y: 5 } });
  await ada.link('Profile and sessions').waitFor({ state: 'hidden' });
});

journey('a webhook is added by the keyboard alone', async (site) => {
  const ada = await site.admin();
  await ada.webhooks();
  const { keyboard } = ada.page;
  const tabTo = async (name) => {
    for (let stops = 0; stops < 60; stops += 1) {
      await keyboard.press('Tab');
      const label = await ada.page.evaluate(() => document.activeElement.labels?.[0]?.textContent ?? document.activeElement.textContent);
      if (label.trim().startsWith(name)) return;
    }
    throw new Error(`${name} is not reached`);
  };
  await keyboard.press('Tab');
  assert.equal(await ada.page.evaluate(() => document.activeElement.textContent), 'Skip to content');
  await keyboard.press('Enter');
  await tabTo('Add Webhook');
  await keyboard.press('Enter');
  await ada.at('Add a webhook');
  await keyboard.type(site.receiver.url());
  await keyboard.press('Enter');
  await ada.at('Signing secret');
  await site.receiver.next();
});
