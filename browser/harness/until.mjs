// Waiting for what is about to happen.

/** Checks until there is an answer, and fails when there is none in time. */
export async function until(what, check, within = 30_000) {
  const deadline = Date.now() + within;
  for (;;) {
    const found = await check();
    if (found) return found;
    if (Date.now() > deadline) throw new Error(`not within ${within / 1000} s: ${what}`);
    await new Promise((resolve) => { setTimeout(resolve, 25); });
  }
}
