import assert from 'node:assert/strict';
import { journey } from '../harness/journey.mjs';

journey('what was changed is in the audit log, with who it was, and no secret', async (site) => {
  const ada = await site.admin();
  const { secret } = await ada.addWebhook({ url: site.receiver.url(), name: 'CRM' });
  await ada.link('I have it').click();
  await ada.row('CRM').getByRole('switch').click();
  await ada.row('CRM').locator('[role=switch][aria-checked=false]').waitFor();
  const member = await ada.colleague('Member');
  assert.equal(await member.get('/settings/audit-log'), 403);

  await ada.visit('/settings/audit-log');
  const table = ada.page.locator('tbody');
  for (const action of ['webhook.created', 'user.invited', 'user.joined', 'login.succeeded']) {
    await table.getByText(action, { exact: true }).first().waitFor();
  }
  await table.getByText('ada@example.com').first().waitFor();
  const created = table.locator('tr', { hasText: 'webhook.created' });
  await created.getByText('Details').click();
  await created.getByText(site.receiver.url()).waitFor();
  assert.ok(!(await ada.page.content()).includes(secret));

  await ada.page.getByLabel('Action').fill('webhook.created');
  await ada.button('Filter').click();
  await ada.page.waitForURL(/action=webhook\.created/);
  assert.equal(await table.locator('tr').count(), 1);

  const download = ada.page.waitForEvent('download');
  await ada.link('Export').click();
  const path = await (await download).path();
  const { readFileSync } = await import('node:fs');
  const text = readFileSync(path, 'utf8');
  assert.ok(text.includes('webhook.created') && !text.includes(secret));
});
