import assert from 'node:assert/strict';
import { journey } from '../harness/journey.mjs';
import { PASSWORD } from '../harness/person.mjs';
import { Provider } from '../harness/provider.mjs';

const PEOPLE = {
  grace: { email: 'grace@example.com', email_verified: true, name: 'Grace Hopper' },
  mallory: { email: 'mallory@example.com', email_verified: true, name: 'Mallory' },
  eve: { email: 'grace@example.com', email_verified: false, name: 'Eve' },
};

let provider;
const started = (how) => async (site) => {
  provider = site.with(await Provider.start(PEOPLE, how));
  return {
    POSTRIDER_OIDC_ISSUER: provider.issuer,
    POSTRIDER_OIDC_CLIENT_ID: provider.client,
    POSTRIDER_OIDC_CLIENT_SECRET: provider.secret,
    POSTRIDER_OIDC_NAME: 'Example ID',
  };
};

const logIn = async (person, name, next = '/settings') => {
  await person.visit(`/login?next=${encodeURIComponent(next)}`);
  await person.link('Continue with Example ID').click();
  await provider.consent(person.page, name);
};

journey('who was invited logs in by a real identity provider, and is known by it from then on', async (site) => {
  provider.serves(site.url);
  const ada = await site.admin();
  await ada.invite('grace@example.com', 'Member', 'Grace');

  const grace = await site.person();
  await logIn(grace, 'grace', '/settings/members');
  await grace.at('Members');
  await grace.page.getByText('(you)').waitFor();
  await grace.visit('/settings/profile');
  await grace.page.getByText('You log in by your identity provider').waitFor();

  // Known by issuer and subject now: another address at the provider changes nothing.
  PEOPLE.grace.email = 'hopper@example.com';
  const again = await site.person();
  await logIn(again, 'grace');
  await again.at('Overview');

  await ada.visit('/settings/audit-log');
  await ada.page.locator('tbody').getByText('user.identified').waitFor();
  PEOPLE.grace.email = 'grace@example.com';
}, { settings: started() });

journey('who was not invited, or whose address is not verified, is not let in', async (site) => {
  provider.serves(site.url);
  const ada = await site.admin();
  await ada.invite('grace@example.com', 'Member', 'Grace');
  for (const name of ['mallory', 'eve']) {
    const stranger = await site.person();
    await logIn(stranger, name);
    await stranger.at('Log in');
    await stranger.page.getByRole('alert').filter({ hasText: /invit/i }).waitFor();
    assert.equal(await stranger.get('/settings/webhooks'), 303, `${name} is nobody`);
  }
  const cancelled = await site.person();
  await cancelled.visit('/login');
  await cancelled.link('Continue with Example ID').click();
  await provider.refuse(cancelled.page);
  await cancelled.at('Log in');
  await cancelled.page.getByRole('alert').waitFor();
  // The password's way in stays open.
  await cancelled.page.getByLabel('E-mail').fill('ada@example.com');
  await cancelled.page.getByLabel('Password').fill(PASSWORD);
  await cancelled.button('Log in').click();
  await cancelled.at('Overview');
}, { settings: started() });

journey('a provider whose token says nothing but the subject is asked for the address', async (site) => {
  provider.serves(site.url);
  const ada = await site.admin();
  await ada.invite('grace@example.com', 'Member', 'Grace');
  const grace = await site.person();
  await logIn(grace, 'grace');
  await grace.at('Overview');
  const eve = await site.person();
  await logIn(eve, 'eve');
  await eve.at('Log in');
}, { settings: started({ sparse: true }) });
