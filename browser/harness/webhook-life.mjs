// Add, toggle, edit, test, rotate, finish the rotation, delete: as anybody does it, with a script or without.
import assert from 'node:assert/strict';
import { verifies } from './receiver.mjs';
import { until } from './until.mjs';

export async function webhookLife(site, admin) {
  const { receiver, server } = site;
  const { id, secret } = await admin.addWebhook({ url: receiver.url(), name: 'CRM', events: ['matter.closed'] });
  assert.ok(verifies(await receiver.next(), secret), 'the ping is signed');
  await admin.link('I have it').click();

  await paused(site, admin);
  await edited(admin);
  await tested(site, admin, secret);
  await rotated(site, admin, secret);

  await admin.webhooks();
  await admin.choose('Matters', 'Delete');
  await admin.button('Delete the webhook').click();
  await admin.page.getByText('No webhooks yet').waitFor();
  const left = await server.call('GET', '/v1/webhooks');
  assert.ok(!JSON.stringify(left).includes(id));
}

async function paused({ receiver }, admin) {
  const toggle = admin.row('CRM').getByRole('switch');
  assert.equal(await toggle.getAttribute('aria-checked'), 'true');
  await toggle.click();
  await admin.row('CRM').locator('[role=switch][aria-checked=false]').waitFor();
  await admin.row('CRM').getByRole('switch').click();
  await admin.row('CRM').locator('[role=switch][aria-checked=true]').waitFor();
  assert.equal(receiver.deliveries.length, 1, 'turning it off and on sends nothing');
}

async function edited(admin) {
  await admin.choose('CRM', 'Edit');
  assert.equal(await admin.page.locator('[name=patterns]').inputValue(), 'matter.closed');
  await admin.page.getByLabel(/^Name/).fill('Matters');
  await admin.page.locator('[name=patterns]').fill('matter.closed, matter.opened');
  await admin.button('Save').click();
  await admin.row('Matters').getByText('matter.opened').waitFor();
}

async function tested({ receiver }, admin, secret) {
  const before = receiver.deliveries.length;
  await admin.choose('Matters', 'Test');
  assert.ok(verifies(await receiver.next(before), secret), 'the test is signed');
  // The page is answered before the delivery has an outcome.
  await until('the test is in the history', async () => {
    await admin.visit('/settings/webhooks');
    await admin.row('Matters').locator('a.chevron').click();
    const history = admin.row('Matters').getByRole('region', { name: 'Deliveries' });
    await history.waitFor();
    return (await history.locator('.pill.good').count()) === 2;
  });
}

async function rotated({ receiver }, admin, old) {
  await admin.webhooks();
  await admin.choose('Matters', 'Rotate secret');
  await admin.button('Rotate the secret').click();
  const { secret } = await admin.shownSecret();
  assert.notEqual(secret, old);
  await admin.link('I have it').click();

  let before = receiver.deliveries.length;
  await admin.choose('Matters', 'Test');
  const during = await receiver.next(before);
  assert.ok(verifies(during, old), 'the secret of before still verifies');
  assert.ok(verifies(during, secret, 'x-athenty-signature-next'), 'and so does the new one');

  await admin.webhooks();
  await admin.choose('Matters', 'Finish rotation now');
  await admin.told('The rotation is finished');
  before = receiver.deliveries.length;
  await admin.choose('Matters', 'Test');
  const after = await receiver.next(before);
  assert.ok(verifies(after, secret), 'the new secret signs alone');
  assert.ok(!verifies(after, old));
}
