// Makes and checks vectors.json: requests as the providers send them, with what it takes to verify them.
//
//   node vectors.mjs make    writes vectors.json anew
//   node vectors.mjs check   lets the vendors' libraries verify every vector of the file, and refuse it after a change
//   node vectors.mjs live    prints the vectors as they would be sent now, each to a URL of its own: standard input has
//                            [{"provider", "name", "url"}, …]; `ping` is what Discord asks a new URL
//
// Run `npm ci --ignore-scripts` here first. `made_by` names the library that signed; "recipe" means that the library only
// verifies, or that there is none, and node:crypto signed what the vendor documents. `checked_by` names the library
// that verified. The certificates of PayPal's and SNS' vectors are made with the openssl command line.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import crypto from 'node:crypto';
import { EventEmitter } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import https from 'node:https';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

// Everything happens at one moment, so that a vector stays as it is.
const isLive = process.argv[2] === 'live';
const NOW = isLive ? Math.floor(Date.now() / 1000) * 1000 : Date.parse('2026-01-01T00:00:00Z');
const RealDate = Date;
globalThis.Date = class extends RealDate {
  constructor(...given) {
    super(...(given.length ? given : [NOW]));
  }
  static now() {
    return NOW;
  }
};

const require = createRequire(import.meta.url);
const versions = require('./package.json').dependencies;
const library = (name) => `${name} ${versions[name]}`;
const seconds = String(NOW / 1000);
const milliseconds = String(NOW);
const moment = new RealDate(NOW).toISOString().replace(/\.\d+/, '');
let url = 'https://hooks.example.com/api/v1/webhooks/receive/wh_1?region=eu';
const hmac = (hash, key, text, encoding) => crypto.createHmac(hash, key).update(text).digest(encoding);
const json = (value) => JSON.stringify(value);
const form = (pairs) => new URLSearchParams(pairs).toString();

// ---------------------------------------------------------------------------------------------- what they sign

const makers = {
  custom() {
    const { Webhook } = require('standardwebhooks');
    const secret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw';
    const body = json({ type: 'invoice.paid', data: { name: 'Zoë 🐎' } });
    const headers = {
      'webhook-id': 'msg_1',
      'webhook-timestamp': seconds,
      'webhook-signature': new Webhook(secret).sign('msg_1', new Date(NOW), body),
    };
    const stamped = hmac('sha256', secret, `${seconds}.${body}`, 'hex');
    return [
      { secret, body, headers, type: 'invoice.paid', id: 'msg_1', made_by: library('standardwebhooks') },
      {
        name: 'X-Alumia-Signature',
        secret,
        body,
        headers: { 'x-alumia-signature': `t=${seconds},v1=${stamped}` },
        type: 'invoice.paid',
        made_by: 'recipe',
      },
    ];
  },

  svix() {
    const { Webhook } = require('svix');
    const secret = 'whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD';
    const body = json({ type: 'user.created', data: { id: 'usr_1', name: 'Zoë 🐎' } });
    const signature = new Webhook(secret).sign('msg_2', new Date(NOW), body);
    const older = new Webhook('whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw').sign('msg_2', new Date(NOW), body);
    const seed = Buffer.alloc(32, 7);
    const pkcs8 = Buffer.concat([Buffer.from('302e020100300506032b657004220420', 'hex'), seed]);
    const key = crypto.createPrivateKey({ key: pkcs8, format: 'der', type: 'pkcs8' });
    const point = crypto.createPublicKey(key).export({ format: 'der', type: 'spki' }).subarray(-32);
    const asymmetric = crypto.sign(null, Buffer.from(`msg_2.${seconds}.${body}`), key).toString('base64');
    const of = (prefix, text) => ({
      [`${prefix}-id`]: 'msg_2',
      [`${prefix}-timestamp`]: seconds,
      [`${prefix}-signature`]: text,
    });
    const common = { secret, body, type: 'user.created', id: 'msg_2', made_by: library('svix') };
    return [
      { ...common, headers: of('svix', signature) },
      { ...common, name: 'rotation', headers: of('svix', `${older} v2,bm90aGluZw== ${signature}`) },
      { ...common, name: 'webhook-* headers', headers: of('webhook', signature) },
      { ...common, name: 'Supabase writes v1,whsec_', secret: `v1,${secret}`, headers: of('webhook', signature) },
      {
        ...common,
        name: 'ed25519',
        secret: `whpk_${point.toString('base64')}`,
        headers: of('webhook', `v1a,${asymmetric}`),
        made_by: 'recipe',
      },
      {
        name: "Svix's published example",
        made_by: 'published',
        secret: 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw',
        now: 1614265330000,
        body: '{"test": 2432232314}',
        headers: {
          'svix-id': 'msg_p5jXN8AQM9LWM0D4loKWxJek',
          'svix-timestamp': '1614265330',
          'svix-signature': 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=',
        },
        type: 'svix.received',
        id: 'msg_p5jXN8AQM9LWM0D4loKWxJek',
      },
    ];
  },

  polar() {
    const { Webhook } = require('standardwebhooks');
    const secret = 'polar_whs_a secret that is no base64';
    const body = json({ type: 'order.created', data: { name: 'Zoë' } });
    const signature = new Webhook(secret, { format: 'raw' }).sign('msg_3', new Date(NOW), body);
    const headers = { 'webhook-id': 'msg_3', 'webhook-timestamp': seconds, 'webhook-signature': signature };
    return [{ secret, body, headers, type: 'order.created', id: 'msg_3', made_by: library('standardwebhooks') }];
  },

  stripe() {
    const Stripe = require('stripe');
    const secret = 'whsec_test_secret';
    const body = json({ id: 'evt_1', object: 'event', type: 'payment_intent.succeeded', data: { name: 'Zoë 🐎' } });
    const header = Stripe.webhooks.generateTestHeaderString({ payload: body, secret, timestamp: Number(seconds) });
    const [time, signature] = header.split(',');
    const older = hmac('sha256', 'whsec_older', `${seconds}.${body}`, 'hex');
    const common = { secret, body, type: 'payment_intent.succeeded', id: 'evt_1', made_by: library('stripe') };
    return [
      { ...common, headers: { 'stripe-signature': header } },
      {
        ...common,
        name: 'rotation',
        headers: { 'stripe-signature': `${time},v1=${older},${signature},v0=${'0'.repeat(64)}` },
      },
    ];
  },

  async github() {
    const { sign } = await import('@octokit/webhooks-methods');
    const secret = "It's a Secret to Everybody";
    const body = json({ action: 'opened', issue: { title: 'Zoë 🐎' } });
    const others = { 'x-github-event': 'issues', 'x-github-delivery': '72d3162e-cc78-11e3-81ab-4c9367dc0958' };
    const common = { secret, type: 'issues.opened', id: others['x-github-delivery'], unsigned: Object.keys(others) };
    return [
      {
        ...common,
        body,
        headers: { ...others, 'x-hub-signature-256': await sign(secret, body) },
        made_by: library('@octokit/webhooks-methods'),
      },
      {
        ...common,
        name: 'SHA-1 alone',
        body,
        headers: { ...others, 'x-hub-signature': `sha1=${hmac('sha1', secret, body, 'hex')}` },
        made_by: 'recipe',
      },
      {
        name: "GitHub's published example",
        made_by: 'published',
        secret,
        body: 'Hello, World!',
        headers: {
          'x-hub-signature-256': 'sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17',
        },
        type: 'github.received',
      },
    ];
  },

  gitlab() {
    const { Webhook } = require('standardwebhooks');
    const secret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw';
    const body = json({ object_kind: 'push', user_name: 'Zoë' });
    const headers = {
      'webhook-id': 'msg_4',
      'webhook-timestamp': seconds,
      'webhook-signature': new Webhook(secret).sign('msg_4', new Date(NOW), body),
      'x-gitlab-event': 'Push Hook',
    };
    return [
      {
        secret,
        body,
        headers,
        unsigned: ['x-gitlab-event'],
        type: 'push',
        id: 'msg_4',
        made_by: library('standardwebhooks'),
      },
      {
        name: 'secret token',
        secret: 'a token of my own',
        body,
        headers: { 'x-gitlab-token': 'a token of my own', 'x-gitlab-event-uuid': 'b5c3' },
        unsigned: ['x-gitlab-event-uuid'],
        verdict: 'authenticated',
        type: 'push',
        id: 'b5c3',
        made_by: 'recipe',
      },
    ];
  },

  token() {
    const body = json({ event: 'lead.won' });
    const headers = { authorization: 'Bearer a token of my own' };
    const secret = 'a token of my own';
    return [{ secret, body, headers, verdict: 'authenticated', type: 'lead.won', made_by: 'recipe' }];
  },

  slack() {
    const secret = '8f742231b10e8888abcd99yyyzzz85a5';
    const body = json({ type: 'event_callback', event_id: 'Ev1', event: { type: 'app_mention', text: 'Zoë 🐎' } });
    const published =
      'token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V' +
      '&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=' +
      '&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN' +
      '&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c';
    return [
      {
        secret,
        body,
        headers: {
          'x-slack-request-timestamp': seconds,
          'x-slack-signature': `v0=${hmac('sha256', secret, `v0:${seconds}:${body}`, 'hex')}`,
        },
        type: 'app_mention',
        id: 'Ev1',
        made_by: 'recipe',
      },
      {
        name: "Slack's published example",
        made_by: 'published',
        secret,
        now: 1531420618000,
        body: published,
        headers: {
          'x-slack-request-timestamp': '1531420618',
          'x-slack-signature': 'v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503',
        },
        type: 'command.webhook-collect',
        id: '398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c',
      },
    ];
  },

  async shopify() {
    const secret = 'shpss_0123456789abcdef';
    const body = json({ id: 1, customer: 'Zoë 🐎' });
    const { createSHA256HMAC } = require('@shopify/shopify-api/runtime');
    const mac = await createSHA256HMAC(secret, body);
    const of = (prefix) => ({
      [`${prefix}topic`]: 'orders/create',
      [`${prefix}shop-domain`]: 'example.myshopify.com',
      [`${prefix}api-version`]: '2026-01',
      [`${prefix}webhook-id`]: 'b54557e4',
      [`${prefix}event-id`]: '98880550',
    });
    const common = { secret, body, type: 'orders.create', id: 'b54557e4', made_by: library('@shopify/shopify-api') };
    return ['x-shopify-', 'shopify-'].map((prefix) => ({
      ...common,
      name: `headers ${prefix}*`,
      headers: { ...of(prefix), [`${prefix}hmac-sha256`]: mac },
      unsigned: Object.keys(of(prefix)),
    }));
  },

  linear() {
    const secret = 'lin_wh_0123456789abcdef';
    const body = json({ action: 'create', type: 'Issue', data: { title: 'Zoë 🐎' }, webhookTimestamp: NOW });
    const others = { 'linear-event': 'Issue', 'linear-delivery': '234d1a4e-b617-4388-90fe-adc3633d6b72' };
    const headers = { ...others, 'linear-signature': hmac('sha256', secret, body, 'hex') };
    const unsigned = Object.keys(others);
    return [
      { secret, body, headers, unsigned, type: 'issue.create', id: others['linear-delivery'], made_by: 'recipe' },
    ];
  },

  twilio() {
    const { getExpectedTwilioSignature, getExpectedBodyHash } = require('twilio/lib/webhooks/webhooks.js');
    const secret = '12345';
    const params = { CallSid: 'CA1234567890ABCDE', CallStatus: 'ringing', To: '+18005551212', Digits: '1 & 2', Name: 'Zoë' };
    const body = form(params);
    const signed = (address, given) => ({ 'x-twilio-signature': getExpectedTwilioSignature(secret, address, given) });
    const headers = { 'i-twilio-idempotency-token': 'idem-1' };
    const form_type = { 'content-type': 'application/x-www-form-urlencoded' };
    const unsigned = ['i-twilio-idempotency-token', 'content-type'];
    const payload = json({ EventType: 'com.twilio.error', name: 'Zoë' });
    const hashed = `${url}&bodySHA256=${getExpectedBodyHash(payload)}`;
    const common = { secret, unsigned, type: 'call.ringing', id: 'idem-1', made_by: library('twilio') };
    const repeated = [['To', 'b'], ['To', 'a'], ['Media', 'x'], ['To', 'b']];
    return [
      { ...common, body, headers: { ...headers, ...form_type, ...signed(url, params) } },
      {
        ...common,
        name: 'signed with the default port',
        body,
        headers: { ...headers, ...form_type, ...signed(url.replace('.com/', '.com:443/'), params) },
      },
      {
        ...common,
        name: 'JSON with bodySHA256',
        url: hashed,
        body: payload,
        headers: { ...headers, 'content-type': 'application/json', ...signed(hashed, {}) },
        type: 'twilio.received',
      },
      {
        ...common,
        name: 'repeated names',
        body: form(repeated),
        headers: { ...headers, ...form_type, ...signed(url, { To: ['b', 'a', 'b'], Media: 'x' }) },
        type: 'twilio.received',
      },
      {
        name: "Twilio's published example",
        made_by: 'published',
        secret,
        url: 'https://mycompany.com/myapp.php?foo=1&bar=2',
        body: form({
          CallSid: 'CA1234567890ABCDE',
          Digits: '1234',
          From: '+14158675309',
          To: '+18005551212',
          Caller: '+14158675309',
        }),
        headers: { 'x-twilio-signature': 'RSOYDt4T1cUTdK1PDd93/VVr8B8=' },
        type: 'twilio.received',
      },
    ];
  },

  square() {
    const secret = 'asdf1234';
    const body = json({ event_id: '6a8f5f28', type: 'payment.updated', data: { note: 'Zoë 🐎' } });
    const headers = { 'x-square-hmacsha256-signature': hmac('sha256', secret, url + body, 'base64') };
    return [{ secret, body, headers, type: 'payment.updated', id: '6a8f5f28', made_by: 'recipe' }];
  },

  hubspot() {
    const { Signature } = require('@hubspot/api-client');
    const secret = 'cb6c0e1a-0000-4000-8000-000000000000';
    const body = json([{ eventId: 1, subscriptionType: 'contact.creation', note: 'Zoë 🐎' }]);
    const signed = (address) => ({
      'x-hubspot-request-timestamp': milliseconds,
      'x-hubspot-signature-v3': Signature.getSignature('POST', 'v3', {
        clientSecret: secret,
        requestBody: body,
        url: address,
        timestamp: NOW,
      }),
    });
    const common = { secret, body, type: 'contact.creation', made_by: library('@hubspot/api-client') };
    const plain = 'https://hooks.example.com/w?to=https://a.example/&mail=a@b.example';
    return [
      { ...common, headers: signed(url) },
      {
        ...common,
        name: 'decoded URL',
        url: 'https://hooks.example.com/w?to=https%3A%2F%2Fa.example%2F&mail=a%40b.example',
        signed_url: plain,
        headers: signed(plain),
      },
    ];
  },

  zoom() {
    const secret = 'a zoom secret token';
    const body = json({ event: 'meeting.started', event_ts: NOW, payload: { topic: 'Zoë 🐎' } });
    const headers = {
      'x-zm-request-timestamp': seconds,
      'x-zm-signature': `v0=${hmac('sha256', secret, `v0:${seconds}:${body}`, 'hex')}`,
    };
    return [{ secret, body, headers, type: 'meeting.started', id: sha256(body), made_by: 'recipe' }];
  },

  meta() {
    const secret = '0123456789abcdef0123456789abcdef';
    const body =
      '{"object":"whatsapp_business_account","entry":[{"id":"1","changes":[{"field":"messages","value":{"text":"Zo\\u00eb"}}]}]}';
    const headers = { 'x-hub-signature-256': `sha256=${hmac('sha256', secret, body, 'hex')}` };
    const type = 'whatsapp_business_account.messages';
    return [{ secret, body, headers, type, id: sha256(body), made_by: 'recipe' }];
  },

  discord() {
    const pkcs8 = Buffer.concat([Buffer.from('302e020100300506032b657004220420', 'hex'), Buffer.alloc(32, 9)]);
    const key = crypto.createPrivateKey({ key: pkcs8, format: 'der', type: 'pkcs8' });
    const secret = crypto.createPublicKey(key).export({ format: 'der', type: 'spki' }).subarray(-32).toString('hex');
    const of = (body) => ({
      'x-signature-timestamp': seconds,
      'x-signature-ed25519': crypto.sign(null, Buffer.from(seconds + body), key).toString('hex'),
    });
    const interaction = json({ id: '846462639134605312', type: 2, data: { name: 'cardsearch', note: 'Zoë 🐎' } });
    const event = json({ version: 1, application_id: '1', type: 1, event: { type: 'APPLICATION_AUTHORIZED', data: {} } });
    return [
      {
        secret,
        body: interaction,
        headers: of(interaction),
        type: 'interaction.cardsearch',
        id: '846462639134605312',
        made_by: 'recipe',
      },
      {
        name: 'webhook event',
        secret,
        body: event,
        headers: of(event),
        type: 'application_authorized',
        id: sha256(event),
        made_by: 'recipe',
      },
    ];
  },

  sendgrid() {
    const body =
      json([
        {
          email: 'hello@world.com',
          event: 'dropped',
          reason: 'Bounced Address',
          sg_event_id: 'ZHJvcC0xMDk5NDkxOS1MUnpYbF9OSFN0T0doUTRrb2ZTbV9BLTA',
          sg_message_id: 'LRzXl_NHStOGhQ4kofSm_A.filterdrecv-p3mdw1-756b745b58-kmzbl-18-5F5FC76C-9.0',
          'smtp-id': '<LRzXl_NHStOGhQ4kofSm_A@ismtpd0039p1iad1.sendgrid.net>',
          timestamp: 1600112492,
        },
      ]) + '\r\n';
    return [
      {
        name: "SendGrid's published example",
        made_by: 'published',
        secret:
          'MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE83T4O/n84iotIvIW4mdBgQ/7dAfSmpqIM8kF9mN1flpVKS3GRqe62gw+2fNNRaINXvVpiglSI8eNEc6wEA3F+g==',
        now: 1600112502000,
        body,
        headers: {
          'x-twilio-email-event-webhook-timestamp': '1600112502',
          'x-twilio-email-event-webhook-signature':
            'MEUCIGHQVtGj+Y3LkG9fLcxf3qfI10QysgDWmMOVmxG0u6ZUAiEAyBiXDWzM+uOe5W0JuG+luQAbPIqHh89M15TluLtEZtM=',
        },
        type: 'dropped',
        id: sha256(body),
      },
    ];
  },

  mailgun() {
    const secret = 'key-0123456789abcdef';
    const token = 'c0ffee'.repeat(8);
    const signature = { timestamp: seconds, token, signature: hmac('sha256', secret, seconds + token, 'hex') };
    const body = json({ signature, 'event-data': { event: 'opened', recipient: 'zoë@example.com' } });
    return [{ secret, body, headers: {}, type: 'opened', id: token, made_by: 'recipe' }];
  },

  paddle() {
    const secret = 'pdl_ntfset_0123';
    const body = json({ event_id: 'evt_01', event_type: 'transaction.completed', data: { name: 'Zoë 🐎' } });
    const mac = (key) => hmac('sha256', key, `${seconds}:${body}`, 'hex');
    const common = { secret, body, type: 'transaction.completed', id: 'evt_01', made_by: 'recipe' };
    return [
      { ...common, headers: { 'paddle-signature': `ts=${seconds};h1=${mac(secret)}` } },
      { ...common, name: 'rotation', headers: { 'paddle-signature': `ts=${seconds};h1=${mac('old')};h1=${mac(secret)}` } },
    ];
  },

  adyen() {
    const { hmacValidator: Validator } = require('@adyen/api-library');
    const secret = '44782DEF547AAA06C910C43932B1EB0C71FC68D9D0C057550C48EC2ACF6BA056';
    const validator = new Validator();
    const item = (reference) => {
      const NotificationRequestItem = {
        additionalData: {},
        amount: { currency: 'EUR', value: 1130 },
        pspReference: reference,
        eventCode: 'AUTHORISATION',
        eventDate: '2026-01-01T00:00:00+01:00',
        merchantAccountCode: 'TestMerchant',
        merchantReference: 'Zoë: 1\\2',
        success: 'true',
      };
      NotificationRequestItem.additionalData.hmacSignature = validator.calculateHmac(NotificationRequestItem, secret);
      return { NotificationRequestItem };
    };
    const body = json({ live: 'false', notificationItems: [item('7914073381342284'), item('7914073381342285')] });
    const published = json({
      notificationItems: [
        {
          NotificationRequestItem: {
            additionalData: { hmacSignature: 'coqCmt/IZ4E3CzPvMY8zTjQVL5hYJUiBRg8UU+iCWo0=' },
            amount: { currency: 'EUR', value: 1130 },
            pspReference: '7914073381342284',
            eventCode: 'AUTHORISATION',
            merchantAccountCode: 'TestMerchant',
            merchantReference: 'TestPayment-1407325143704',
            success: 'true',
          },
        },
      ],
    });
    const banking = json({ type: 'balancePlatform.transfer.created', data: { reference: 'Zoë' } });
    const made_by = library('@adyen/api-library');
    return [
      { secret, body, headers: {}, type: 'authorisation', id: sha256(body), made_by },
      {
        name: "Adyen's published example",
        made_by: 'published',
        secret,
        body: published,
        headers: {},
        type: 'authorisation',
        id: sha256(published),
      },
      {
        name: 'signature in a header',
        secret,
        body: banking,
        headers: { hmacsignature: validator.calculateHmac(banking, secret) },
        type: 'balanceplatform.transfer.created',
        id: sha256(banking),
        made_by,
      },
    ];
  },

  intercom() {
    const secret = 'an intercom client secret';
    const body = json({ type: 'notification_event', id: 'notif_1', topic: 'conversation.user.created', data: 'Zoë 🐎' });
    const headers = { 'x-hub-signature': `sha1=${hmac('sha1', secret, body, 'hex')}` };
    return [{ secret, body, headers, type: 'conversation.user.created', id: 'notif_1', made_by: 'recipe' }];
  },

  typeform() {
    const secret = 'a typeform secret';
    const body = json({ event_id: '01H', event_type: 'form_response', form_response: { name: 'Zoë 🐎' } });
    const headers = { 'typeform-signature': `sha256=${hmac('sha256', secret, body, 'base64')}` };
    return [{ secret, body, headers, type: 'form_response', id: '01H', made_by: 'recipe' }];
  },

  razorpay() {
    const secret = 'a razorpay webhook secret';
    const body = json({ entity: 'event', event: 'payment.captured', payload: { name: 'Zoë 🐎' } });
    const headers = { 'x-razorpay-signature': hmac('sha256', secret, body, 'hex'), 'x-razorpay-event-id': 'Gb5k' };
    const unsigned = ['x-razorpay-event-id'];
    return [{ secret, body, headers, unsigned, type: 'payment.captured', id: 'Gb5k', made_by: 'recipe' }];
  },

  xero() {
    const secret = 'a xero webhook key';
    const of = (body) => ({ 'x-xero-signature': hmac('sha256', secret, body, 'base64') });
    const body = json({ events: [{ eventCategory: 'INVOICE', eventType: 'UPDATE' }], entropy: 'S0m3r4Nd0mt3xt' });
    const intent = json({ events: [], lastEventSequence: 0, firstEventSequence: 0, entropy: 'S0m3r4Nd0mt3xt' });
    const common = { secret, made_by: 'recipe' };
    return [
      { ...common, body, headers: of(body), type: 'invoice.update', id: sha256(body) },
      { ...common, name: 'intent', body: intent, headers: of(intent), type: 'intent_to_receive', id: sha256(intent) },
    ];
  },

  docusign() {
    const secret = 'a docusign connect key';
    const body = json({ event: 'envelope-completed', data: { envelopeId: 'e1', name: 'Zoë 🐎' } });
    const mac = (key) => hmac('sha256', key, body, 'base64');
    const common = { secret, body, type: 'envelope-completed', id: sha256(body), made_by: 'recipe' };
    const both = { 'x-docusign-signature-1': mac('an older key'), 'x-docusign-signature-2': mac(secret) };
    return [
      { ...common, headers: { 'x-docusign-signature-1': mac(secret) } },
      { ...common, name: 'rotation', headers: both },
    ];
  },

  calendly() {
    const secret = 'a calendly signing key';
    const body = json({ event: 'invitee.created', created_at: '2026-01-01T00:00:00Z', payload: { name: 'Zoë 🐎' } });
    const headers = {
      'calendly-webhook-signature': `t=${seconds},v1=${hmac('sha256', secret, `${seconds}.${body}`, 'hex')}`,
    };
    return [{ secret, body, headers, type: 'invitee.created', id: sha256(body), made_by: 'recipe' }];
  },

  dropbox() {
    const secret = 'a dropbox app secret';
    const body = json({ list_folder: { accounts: ['dbid:AAH4f99T0taONIb-OurWxbNQ6ywGRopQngc'] } });
    const headers = { 'x-dropbox-signature': hmac('sha256', secret, body, 'hex') };
    return [{ secret, body, headers, type: 'list_folder', made_by: 'recipe' }];
  },

  paypal() {
    const { key, certificate } = certified('messageverificationcerts.sandbox.paypal.com');
    const secret = '9XL90610J3647323C';
    const body = json({ id: 'WH-9UG43882HX7271132', event_type: 'PAYMENT.SALE.COMPLETED', note: 'Zoë 🐎' });
    const [id, time] = ['d938e770-8046-11e6-8103-6b62a8a99ac4', moment];
    const message = `${id}|${time}|${secret}|${crc32(Buffer.from(body))}`;
    const headers = {
      'paypal-transmission-id': id,
      'paypal-transmission-time': time,
      'paypal-transmission-sig': crypto.sign('sha256', Buffer.from(message), key).toString('base64'),
      'paypal-cert-url': 'https://api.sandbox.paypal.com/v1/notifications/certs/CERT-360caa42-fca2a594-a5cafa77',
      'paypal-auth-algo': 'SHA256withRSA',
    };
    const type = 'payment.sale.completed';
    return [{ secret, body, headers, certificate, type, id: 'WH-9UG43882HX7271132', made_by: 'recipe' }];
  },

  sns() {
    const { key, certificate } = certified('sns.amazonaws.com');
    const secret = 'arn:aws:sns:us-east-1:123456789012:MyTopic';
    const common = {
      MessageId: '165545c9-2a5c-472c-8df2-7ff2be2b3b1b',
      TopicArn: secret,
      Timestamp: '2026-01-01T00:00:00.000Z',
      SigningCertURL: 'https://sns.us-east-1.amazonaws.com/SimpleNotificationService-f3ecfb7224c7233fe7bb5f59f96de52f.pem',
    };
    const notification = { Type: 'Notification', Message: 'Zoë\n🐎', Subject: 'A "subject"', ...common };
    const confirmation = {
      Type: 'SubscriptionConfirmation',
      Token: '2336412f37',
      Message: 'You have chosen to subscribe.',
      SubscribeURL: 'https://sns.us-east-1.amazonaws.com/?Action=ConfirmSubscription&Token=2336412f37',
      ...common,
    };
    const signed = (message, version) => {
      const names = ['Message', 'MessageId', 'Subject', 'SubscribeURL', 'Timestamp', 'Token', 'TopicArn', 'Type'];
      const text = names.filter((name) => message[name] !== undefined).map((name) => `${name}\n${message[name]}\n`);
      const hash = version === '1' ? 'sha1' : 'sha256';
      const Signature = crypto.sign(hash, Buffer.from(text.join('')), key).toString('base64');
      return json({ ...message, SignatureVersion: version, Signature });
    };
    const headers = { 'x-amz-sns-message-type': 'Notification' };
    const of = (name, message, version) => ({
      name,
      secret,
      certificate,
      headers,
      unsigned: Object.keys(headers),
      body: signed(message, version),
      type: message.Type.toLowerCase(),
      id: common.MessageId,
      made_by: 'recipe',
    });
    return [
      of('SHA-256', notification, '2'),
      of('SHA-1', notification, '1'),
      of('without subject', { ...notification, Subject: undefined }, '2'),
      of('confirmation', confirmation, '2'),
    ].map((vector) => ({ ...vector, body: json(JSON.parse(vector.body)) }));
  },

  async sanity() {
    const { encodeSignatureHeader } = await import('@sanity/webhook');
    const secret = 'a sanity secret';
    const body = json({ _id: 'resume', _type: 'post', title: 'Zoë 🐎' });
    const others = { 'sanity-operation': 'create', 'idempotency-key': 'idem-2' };
    const signature = await encodeSignatureHeader(body, NOW, secret);
    return [
      {
        secret,
        body,
        headers: { ...others, 'sanity-webhook-signature': signature },
        unsigned: Object.keys(others),
        type: 'post.create',
        id: 'idem-2',
        made_by: library('@sanity/webhook'),
      },
      {
        name: "Sanity's published example",
        made_by: 'published',
        secret: 'test',
        body: '{"_id":"resume"}',
        headers: {
          'sanity-webhook-signature': 't=1633519811129,v1=tLa470fx7qkLLEcMOcEUFuBbRSkGujyskxrNXcoh0N0',
        },
        type: 'sanity.received',
      },
    ];
  },

  paystack() {
    const secret = 'sk_test_0123';
    const body = json({ event: 'charge.success', data: { name: 'Zoë 🐎' } });
    const headers = { 'x-paystack-signature': hmac('sha512', secret, body, 'hex') };
    return [{ secret, body, headers, type: 'charge.success', id: sha256(body), made_by: 'recipe' }];
  },

  x() {
    const secret = 'an x consumer secret';
    const body = json({ for_user_id: '1', tweet_create_events: [{ text: 'Zoë 🐎' }] });
    const headers = { 'x-twitter-webhooks-signature': `sha256=${hmac('sha256', secret, body, 'base64')}` };
    return [{ secret, body, headers, type: 'x.received', id: sha256(body), made_by: 'recipe' }];
  },

  twitch() {
    const secret = 'a twitch eventsub secret';
    const body = json({ subscription: { type: 'channel.follow' }, event: { user_name: 'Zoë 🐎' } });
    const [id, time] = ['befa7b53-d79d-478f-86b9-120f112b044e', moment.replace('Z', '.123456789Z')];
    const headers = {
      'twitch-eventsub-message-id': id,
      'twitch-eventsub-message-timestamp': time,
      'twitch-eventsub-message-signature': `sha256=${hmac('sha256', secret, id + time + body, 'hex')}`,
      'twitch-eventsub-subscription-type': 'channel.follow',
    };
    const unsigned = ['twitch-eventsub-subscription-type'];
    return [{ secret, body, headers, unsigned, type: 'channel.follow', id, made_by: 'recipe' }];
  },

  asana() {
    const secret = '0123456789abcdef0123456789abcdef';
    const body = json({ events: [{ action: 'changed', resource: { resource_type: 'task', name: 'Zoë 🐎' } }] });
    const headers = { 'x-hook-signature': hmac('sha256', secret, body, 'hex') };
    return [{ secret, body, headers, type: 'task.changed', id: sha256(body), made_by: 'recipe' }];
  },

  braintree() {
    const [publicKey, privateKey] = ['a_public_key', 'a_private_key'];
    const kind = 'subscription_went_past_due';
    const sample = braintree(publicKey, privateKey).webhookTesting.sampleNotification(kind, 'sub_1');
    const body = form({ bt_signature: sample.bt_signature, bt_payload: sample.bt_payload });
    const secret = `${publicKey}|${privateKey}`;
    const made_by = library('braintree');
    return [{ secret, body, headers: {}, type: 'braintree.received', id: sha256(body), made_by }];
  },

  okta() {
    const secret = 'a value of my own';
    const body = json({ eventType: 'com.okta.event_hook', eventId: 'e1', data: { events: [{ eventType: 'user.lifecycle.create' }] } });
    const headers = { authorization: secret };
    return [
      { secret, body, headers, verdict: 'authenticated', type: 'user.lifecycle.create', id: 'e1', made_by: 'recipe' },
    ];
  },

  msgraph() {
    const secret = 'a client state';
    const body = json({ value: [{ clientState: secret, changeType: 'updated', resource: 'users/1' }] });
    return [
      { secret, body, headers: {}, verdict: 'authenticated', type: 'updated', id: sha256(body), made_by: 'recipe' },
    ];
  },

  adobesign() {
    const secret = 'CBJCHBCAABAA';
    const body = json({ event: 'AGREEMENT_CREATED' });
    const headers = { 'x-adobesign-clientid': secret };
    const type = 'agreement_created';
    return [{ secret, body, headers, verdict: 'authenticated', type, id: sha256(body), made_by: 'recipe' }];
  },
};

function sha256(text) {
  return crypto.createHash('sha256').update(text).digest('hex');
}

// Bit by bit, unlike the table that is checked with it.
function crc32(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit += 1) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  }
  return (crc ^ 0xffffffff) >>> 0;
}

function braintree(publicKey, privateKey) {
  const library = require('braintree');
  const environment = library.Environment.Sandbox;
  return new library.BraintreeGateway({ environment, merchantId: 'm', publicKey, privateKey });
}

const authority = {
  configuration: `[ca]
default_ca = it
[it]
dir = .
database = index
serial = serial
new_certs_dir = .
default_md = sha256
policy = policy
unique_subject = no
[policy]
commonName = supplied
`,
};

// A key and its certificates, made out to `name` by an authority below a root that are forgotten at the end. Valid from before the moment
// of the vectors, which only `openssl ca` can do.
function certified(name) {
  const place = mkdtempSync(join(tmpdir(), 'vectors-'));
  const read = (file) => readFileSync(join(place, file), 'utf8');
  const write = (file, text) => writeFileSync(join(place, file), text);
  const openssl = (...given) => execFileSync('openssl', given, { cwd: place, stdio: ['ignore', 'ignore', 'ignore'] });
  const ask = (subject, file) =>
    openssl('req', '-newkey', 'rsa:2048', '-nodes', '-subj', `/CN=${subject}`, '-keyout', `${file}.key`, '-out', `${file}.csr`);
  const sign = (file, extensions, key, ...by) => {
    write('extensions', extensions);
    const life = ['-startdate', '20250101000000Z', '-enddate', '20450101000000Z'];
    openssl('ca', '-batch', '-notext', '-config', 'configuration', '-keyfile', key, ...by, ...life,
      '-extfile', 'extensions', '-in', `${file}.csr`, '-out', `${file}.pem`);
  };
  const ca = 'basicConstraints = critical,CA:TRUE\n';
  write('configuration', authority.configuration);
  write('index', '');
  write('serial', crypto.randomBytes(8).toString('hex').replace(/^./, '1'));
  if (authority.root) {
    write('root.key', authority.key);
    write('root.pem', authority.root);
  } else {
    ask('Vectors Root', 'root');
    sign('root', ca, 'root.key', '-selfsign');
    Object.assign(authority, { key: read('root.key'), root: read('root.pem') });
  }
  ask('Vectors Intermediate', 'middle');
  sign('middle', ca, 'root.key', '-cert', 'root.pem');
  ask(name, 'leaf');
  const leaf = `subjectAltName = DNS:${name}\nextendedKeyUsage = serverAuth\nbasicConstraints = CA:FALSE\n`;
  sign('leaf', leaf, 'middle.key', '-cert', 'middle.pem');
  const made = { key: read('leaf.key'), certificate: read('leaf.pem') + read('middle.pem') };
  rmSync(place, { recursive: true });
  return made;
}

// ---------------------------------------------------------------------------------------------- what they accept

// Each answers whether the vendor's library accepts the request; throwing means that it does not.
const checkers = {
  custom: standard,
  gitlab: standard,
  svix: { by: 'svix', accepts: ({ secret, headers, body }) => new (require('svix').Webhook)(secret.replace('v1,', '')).verify(body, headers) && true },
  polar: { by: 'standardwebhooks', accepts: (it) => standard.accepts(it, { format: 'raw' }) },
  stripe: {
    by: 'stripe',
    accepts: ({ secret, headers, body }) => Boolean(require('stripe').webhooks.constructEvent(body, headers['stripe-signature'], secret, 300, undefined, NOW)),
  },
  github: {
    by: '@octokit/webhooks-methods',
    accepts: async ({ secret, headers, body }) => (await import('@octokit/webhooks-methods')).verify(secret, body, headers['x-hub-signature-256']),
  },
  slack: {
    by: '@slack/bolt',
    accepts: ({ secret, headers, body, now }) => {
      const { verifySlackRequest } = require('@slack/bolt/dist/receivers/verify-request.js');
      verifySlackRequest({ signingSecret: secret, body, headers, nowMilliseconds: now });
      return true;
    },
  },
  shopify: {
    by: '@shopify/shopify-api',
    accepts: async ({ secret, headers, body }) => {
      require('@shopify/shopify-api/adapters/node');
      const { shopifyApi, LogSeverity } = require('@shopify/shopify-api');
      const api = shopifyApi({
        apiKey: 'k', apiSecretKey: secret, hostName: 'a.example', isEmbeddedApp: false, apiVersion: '2026-01',
        logger: { level: LogSeverity.Error, log: () => {} },
      });
      const rawRequest = { method: 'POST', url: '/w', headers };
      const rawResponse = { setHeader() {}, getHeaders: () => ({}), statusCode: 200 };
      return (await api.webhooks.validate({ rawBody: body, rawRequest, rawResponse })).valid;
    },
  },
  linear: {
    by: '@linear/sdk',
    accepts: async ({ secret, headers, body }) => {
      const { LinearWebhookClient } = await import('@linear/sdk/webhooks');
      return new LinearWebhookClient(secret).verify(Buffer.from(body), headers['linear-signature']);
    },
  },
  twilio: {
    by: 'twilio',
    accepts: ({ secret, headers, body, url }) => {
      const { validateRequest, validateRequestWithBody } = require('twilio/lib/webhooks/webhooks.js');
      const signature = headers['x-twilio-signature'];
      if (url.includes('bodySHA256')) return validateRequestWithBody(secret, signature, url, body);
      const params = {};
      for (const [name, value] of new URLSearchParams(body)) {
        params[name] = name in params ? [params[name], value].flat() : value;
      }
      return validateRequest(secret, signature, url, params);
    },
  },
  square: {
    by: 'square',
    accepts: ({ secret, headers, body, url }) =>
      require('square').WebhooksHelper.verifySignature({
        requestBody: body,
        signatureHeader: headers['x-square-hmacsha256-signature'],
        signatureKey: secret,
        notificationUrl: url,
      }),
  },
  hubspot: {
    by: '@hubspot/api-client',
    accepts: ({ secret, headers, body, url, signed_url }) =>
      require('@hubspot/api-client').Signature.isValid({
        method: 'POST', signatureVersion: 'v3', signature: headers['x-hubspot-signature-v3'], clientSecret: secret,
        requestBody: body, url: signed_url ?? url, timestamp: Number(headers['x-hubspot-request-timestamp']),
      }),
  },
  discord: {
    by: 'discord-interactions',
    accepts: ({ secret, headers, body }) =>
      require('discord-interactions').verifyKey(body, headers['x-signature-ed25519'], headers['x-signature-timestamp'], secret),
  },
  sendgrid: {
    by: '@sendgrid/eventwebhook',
    accepts: ({ secret, headers, body }) => {
      const { EventWebhook } = require('@sendgrid/eventwebhook');
      const library = new EventWebhook();
      const key = library.convertPublicKeyToECDSA(secret);
      const prefix = 'x-twilio-email-event-webhook-';
      return library.verifySignature(key, body, headers[`${prefix}signature`], headers[`${prefix}timestamp`]);
    },
  },
  paddle: {
    by: '@paddle/paddle-node-sdk',
    // The library looks at the last of several signatures only; ours, like Paddle's documentation, at all of them.
    accepts: ({ secret, headers, body }) => {
      const { Paddle } = require('@paddle/paddle-node-sdk');
      return new Paddle('k').webhooks.isSignatureValid(body, secret, headers['paddle-signature']);
    },
  },
  adyen: {
    by: '@adyen/api-library',
    accepts: ({ secret, headers, body }) => {
      const { hmacValidator: Validator } = require('@adyen/api-library');
      const validator = new Validator();
      if (headers.hmacsignature) return validator.validateHMACSignature(secret, headers.hmacsignature, body);
      const items = JSON.parse(body).notificationItems;
      return items.every((item) => validator.validateHMAC(item.NotificationRequestItem, secret));
    },
  },
  razorpay: {
    by: 'razorpay',
    accepts: ({ secret, headers, body }) => {
      const { validateWebhookSignature } = require('razorpay/dist/utils/razorpay-utils.js');
      return validateWebhookSignature(body, headers['x-razorpay-signature'], secret);
    },
  },
  sns: {
    by: 'sns-validator',
    accepts: ({ body, certificate }) =>
      new Promise((resolve) => {
        const real = https.get;
        // What the library would fetch from AWS. Each message gets a URL of its own, because the library caches.
        https.get = (_, answered) => {
          const response = Object.assign(new EventEmitter(), { statusCode: 200 });
          answered(response);
          response.emit('data', Buffer.from(certificate));
          response.emit('end');
          return new EventEmitter();
        };
        const Validator = require('sns-validator');
        new Validator().validate(body, (error) => resolve(!error));
        https.get = real;
      }),
    // The topic is not the library's business.
    secretless: true,
  },
  sanity: {
    by: '@sanity/webhook',
    accepts: async ({ secret, headers, body }) => (await import('@sanity/webhook')).isValidSignature(body, headers['sanity-webhook-signature'], secret),
  },
  braintree: {
    by: 'braintree',
    accepts: async ({ secret, body }) => {
      const fields = new URLSearchParams(body);
      const notification = braintree(...secret.split('|')).webhookNotification;
      return Boolean(await notification.parse(fields.get('bt_signature'), fields.get('bt_payload')));
    },
  },
};

function standard() {}
Object.assign(standard, {
  by: 'standardwebhooks',
  accepts({ secret, headers, body }, options) {
    new (require('standardwebhooks').Webhook)(secret, options).verify(body, headers, { jsonParse: false });
    return true;
  },
});

// Vectors whose scheme the library does not know.
const beyond = (vector) =>
  vector.verdict === 'authenticated' ||
  ['X-Alumia-Signature', 'ed25519', 'SHA-1 alone'].includes(vector.name);

async function accepted(vector) {
  // Some libraries look at the clock: it shows the vector's time.
  const real = Date.now;
  Date.now = () => vector.now;
  try {
    return (await checkers[vector.provider].accepts(vector)) === true;
  } catch {
    return false;
  } finally {
    Date.now = real;
  }
}

// The body with one character of what is signed changed.
function altered({ provider, body }) {
  if (provider === 'adyen') return body.replace('1130', '1131').replace('Zo', 'Zi');
  if (provider === 'linear') return body.replace('Zo', 'Zi');
  if (provider === 'mailgun') return body.replace('c0ffee', 'c0ffed');
  if (provider === 'sns') return body.replace('165545c9', '165545c8');
  if (provider === 'braintree') return body.replace('bt_payload=', 'bt_payload=A');
  return body.replace(/[a-m](?=[^a-m]*$)/, 'n');
}

async function check(vector) {
  const checker = checkers[vector.provider];
  if (!checker || beyond(vector)) return undefined;
  const label = `${vector.provider} ${vector.name ?? ''}`;
  assert.equal(await accepted(vector), true, `${checker.by} refuses ${label}`);
  const changed = { ...vector, body: altered(vector) };
  assert.notEqual(changed.body, vector.body);
  assert.equal(await accepted(changed), false, `${checker.by} accepts a changed ${label}`);
  if (!checker.secretless) {
    const other = vector.secret.replace(/[0-9a-fA-F](?=[^0-9a-fA-F]*$)/, (digit) => (digit === '1' ? '2' : '1'));
    assert.equal(await accepted({ ...vector, secret: other }), false, `${checker.by} accepts ${label} with another secret`);
  }
  return library(checker.by);
}

// ---------------------------------------------------------------------------------------------- the file

const file = new URL('vectors.json', import.meta.url);

async function make() {
  const vectors = [];
  for (const [provider, maker] of Object.entries(makers)) {
    for (const vector of await maker()) {
      const whole = { provider, method: 'POST', url, now: NOW, verdict: 'verified', unsigned: [], ...vector };
      vectors.push({ ...whole, checked_by: await check(whole) });
    }
  }
  writeFileSync(file, `${JSON.stringify({ root: authority.root, vectors }, null, 1)}\n`);
  return vectors;
}

async function recheck() {
  const { vectors } = JSON.parse(readFileSync(file, 'utf8'));
  for (const vector of vectors) assert.equal(await check(vector), vector.checked_by, vector.provider);
  return vectors;
}

// Each wanted vector made anew for its URL, and verified by the vendor's library where that can.
async function live() {
  const made = [];
  for (const { provider, name, url: wanted } of JSON.parse(readFileSync(0, 'utf8'))) {
    url = wanted;
    const vector = (await makers[provider]()).find((it) => (it.name ?? null) === name && it.made_by !== 'published');
    assert.ok(vector, `no vector ${provider} ${name}`);
    const whole = { provider, method: 'POST', url, now: NOW, verdict: 'verified', unsigned: [], ...vector };
    made.push({ ...whole, altered: altered(whole), checked_by: await check(whole) });
  }
  return { vectors: made, ping: ping() };
}

function ping() {
  const pkcs8 = Buffer.concat([Buffer.from('302e020100300506032b657004220420', 'hex'), Buffer.alloc(32, 9)]);
  const key = crypto.createPrivateKey({ key: pkcs8, format: 'der', type: 'pkcs8' });
  const body = json({ id: '1', application_id: '1', type: 1 });
  const signature = crypto.sign(null, Buffer.from(seconds + body), key).toString('hex');
  return { body, headers: { 'x-signature-timestamp': seconds, 'x-signature-ed25519': signature } };
}

if (isLive) {
  console.log(json(await live()));
} else {
  const vectors = await (process.argv[2] === 'make' ? make() : recheck());
  const checked = vectors.filter((vector) => vector.checked_by).length;
  console.log(`${vectors.length} vectors, ${checked} of them verified by the vendors' libraries`);
}
