import assert from 'node:assert/strict';
import { journey } from '../harness/journey.mjs';
import { rejection, verifies } from '../harness/receiver.mjs';
import { until } from '../harness/until.mjs';
import { webhookLife } from '../harness/webhook-life.mjs';

journey('a webhook is added, and its ping arrives signed', async (site) => {
  const ada = await site.admin();
  await ada.webhooks();
  await ada.page.getByText('No webhooks yet').waitFor();
  await ada.link('Add Webhook').first().click();
  await ada.page.getByLabel('URL').fill('https://127.0.0.1:1/no');
  await ada.page.locator('[name=patterns]').fill('not a pattern!');
  await ada.button('Save').click();
  await ada.page.locator('#events-error, #patterns-error').first().waitFor();

  const url = site.receiver.url();
  const { secret, snippet } = await ada.addWebhook({ url, name: 'CRM', events: ['matter.*', 'envelope.completed'] });
  const ping = await site.receiver.next();
  assert.ok(verifies(ping, secret), 'by the published snippet');
  assert.equal(rejection(snippet, secret, ping), null, 'by the snippet that the page shows');
  assert.notEqual(rejection(snippet, `${secret}x`, ping), null, 'and by no other secret');

  await ada.link('I have it').click();
  const row = ada.row('CRM');
  await row.getByText('matter.*').waitFor();
  await row.getByText('envelope.completed').waitFor();
  assert.ok(!(await ada.page.content()).includes(secret), 'the secret is not shown again');
  await ada.visit(`/settings/webhooks/${await row.getAttribute('id')}/secret`);
  await ada.at('Webhooks');
});

journey('what has a copy button is copied', async (site) => {
  const ada = await site.admin({ permissions: ['clipboard-read', 'clipboard-write'] });
  const clipboard = () => ada.page.evaluate(() => navigator.clipboard.readText());
  const { secret, snippet } = await ada.addWebhook({ url: site.receiver.url(), name: 'CRM' });
  await ada.button('Copy the secret').click();
  await ada.page.getByText('Copied', { exact: true }).waitFor();
  assert.equal(await clipboard(), secret);
  await ada.page.locator('figure.code button.copy').click();
  await ada.page.getByText('Copied', { exact: true }).nth(1).waitFor();
  assert.equal(await clipboard(), snippet);
  await ada.link('I have it').click();
  await ada.row('CRM').locator('button.copy').click();
  await ada.row('CRM').getByText('Copied', { exact: true }).waitFor();
  assert.equal(await clipboard(), site.receiver.url());
});

journey('the whole life of a webhook', async (site) => {
  await webhookLife(site, await site.admin());
});

journey('the whole life of a webhook, without JavaScript', async (site) => {
  await webhookLife(site, await site.admin({ javaScriptEnabled: false }));
});

journey('the whole life of a webhook, on a phone', async (site) => {
  const phone = { viewport: { width: 360, height: 740 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true };
  await webhookLife(site, await site.admin(phone));
});

journey('a failing endpoint is seen, its history read, and its delivery retried', async (site) => {
  const ada = await site.admin();
  site.receiver.answer = { status: 503, body: '{"error":"down for maintenance"}' };
  const { secret } = await ada.addWebhook({ url: site.receiver.url(), name: 'Reporting' });
  await site.receiver.next();
  await ada.webhooks();
  const row = ada.row('Reporting');
  await row.locator('.pill:not(.good)').first().waitFor();
  await row.locator('a.chevron').click();
  const history = row.getByRole('region', { name: 'Deliveries' });
  await history.getByText('503').waitFor();
  await history.getByText('down for maintenance').waitFor();

  await history.getByRole('link').first().click();
  await ada.at(/^Delivery \d+/);
  await ada.page.getByText('POST', { exact: true }).waitFor();
  await ada.page.getByText('x-athenty-signature').first().waitFor();
  await ada.page.getByText('down for maintenance').first().waitFor();

  site.receiver.answer = { status: 200, body: '{"received":true}' };
  const before = site.receiver.deliveries.length;
  await ada.button('Retry now').click();
  // The endpoint may be told before the browser has the answer, which a reload would cut off.
  await ada.told('It is tried again now');
  const again = await site.receiver.next(before);
  assert.ok(verifies(again, secret), 'the retry is signed');
  // The page is answered before the delivery has an outcome.
  await until('the page shows the success', async () => {
    await ada.page.reload();
    return history.locator('.pill.good').count();
  });
  await history.getByRole('link').first().click();
  await ada.page.getByText('Attempt 2').waitFor();
  await ada.page.getByText('Attempt 1').waitFor();
});
