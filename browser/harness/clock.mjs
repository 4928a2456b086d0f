// A wall clock for one server that can be moved, so that a deployment has had a day although it is minutes old. The library
// of Debian's package `faketime` answers the server when it asks for the time; nothing else notices.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export class Clock {
  #home = mkdtempSync(join(tmpdir(), 'postrider-clock-'));
  #file = join(this.#home, 'offset');

  /** A clock that is `behind` milliseconds late. */
  constructor(behind) {
    this.set(behind);
  }

  set(behind) {
    this.behind = behind;
    writeFileSync(this.#file, `-${behind / 1000}\n`);
  }

  /** The environment of whoever is to go by this clock. Spans, which are measured otherwise, stay as they are. */
  get environment() {
    return {
      LD_PRELOAD: process.env.POSTRIDER_FAKETIME,
      FAKETIME_TIMESTAMP_FILE: this.#file,
      FAKETIME_NO_CACHE: '1',
      FAKETIME_DONT_FAKE_MONOTONIC: '1',
    };
  }

  async stop() {
    rmSync(this.#home, { recursive: true, force: true });
  }
}
