// SPDX-License-Identifier: Apache-2.0
// What the reasons of failed operations mean, in the words of the service.

import { addresses, call } from "./api.js";

/** A function from a reason to its `{title, meaning, advice}`. The browser keeps the list and revalidates it. */
export async function explanations(signal) {
  const { items } = await (await call(addresses.reasons(), { signal, cache: "no-cache" })).json();
  const exact = new Map(items.filter((item) => !item.pattern).map((item) => [item.reason, item]));
  const patterns = items.filter((item) => item.pattern).map((item) => [new RegExp(item.pattern), item]);
  return (reason) => exact.get(reason) ?? patterns.find(([pattern]) => pattern.test(reason))?.[1];
}
