// What the test command has installed: the packages of package-lock.json, Chromium, and the built binary.
import { webcrypto } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

function given(name) {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set; run \`cargo xtask test --only browser\``);
  return value;
}

// Debian 12's Node has it, but under another name.
globalThis.crypto ??= webcrypto;

const modules = given('POSTRIDER_NODE_MODULES');
const require = createRequire(join(modules, 'package.json'));

export const root = fileURLToPath(new URL('../..', import.meta.url));
export const binary = given('POSTRIDER_BINARY');
export const chromiumPath = given('POSTRIDER_CHROMIUM');
export const { chromium } = require('playwright-core');
/** Reads and writes PNG with few colours. */
export const palettes = require('upng-js');
export const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');

/** The class of the identity provider. It is loaded by those who need one, since it takes a while. */
export async function oidcProvider() {
  const module = await import(pathToFileURL(join(modules, 'oidc-provider', 'lib', 'index.js')));
  return module.default;
}
