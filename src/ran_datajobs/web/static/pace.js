// SPDX-License-Identifier: Apache-2.0
// When to ask again.

/** Resolves after `ms`, or at once when the signal is aborted. */
export function pause(ms, signal) {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const timer = setTimeout(done, ms);
    function done() {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    }
    signal.addEventListener("abort", done);
  });
}

/**
 * A function that runs `task` now, or as soon as it may: never twice at once, and at least `gap` ms apart.
 * Calls that come in between are answered by one later run. `task` deals with its own errors.
 */
export function paced(task, gap, signal) {
  let running = false;
  let wanted = false;
  return async function run() {
    wanted = true;
    if (running) return;
    running = true;
    while (wanted && !signal.aborted) {
      wanted = false;
      await task();
      await pause(gap, signal);
    }
    running = false;
  };
}
