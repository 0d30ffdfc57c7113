// SPDX-License-Identifier: Apache-2.0
// The service's public API, always on the page's own origin.

const ROOT = new URL("ranoam/cm/v1/", document.baseURI);
const TOKEN = "datajobs.token";

/** What the service refused, or that it could not be reached (`status` 0). RFC 9457. */
export class Problem extends Error {
  constructor(status, body = {}) {
    super(body.detail || body.title || `The service answered ${status}`);
    this.status = status;
    this.title = body.title || (status ? `The service answered ${status}` : "The service cannot be reached");
    this.detail = body.detail || "";
    this.errors = Array.isArray(body.errors) ? body.errors : [];
    this.errorCount = body.errorCount ?? this.errors.length;
    this.retryAfter = body.retryAfter ?? null;
  }
}

function address(path, query = {}) {
  const url = new URL(path, ROOT);
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== null && value !== "") url.searchParams.set(name, value);
  }
  return url;
}
const ofJob = (jobId, call, query) =>
  address(`dataJob/${encodeURIComponent(jobId)}${call ? `/${call}` : ""}`, query);

/** Every address that the page asks for. */
export const addresses = {
  jobs: (query) => address("dataJob", query),
  job: (jobId) => ofJob(jobId),
  subJobs: (jobId, query) => ofJob(jobId, "subJobs", query),
  failures: (jobId) => ofJob(jobId, "failures"),
  events: (jobId) => ofJob(jobId, "events"),
  cancel: (jobId) => ofJob(jobId, "cancel"),
  retry: (jobId, includeUnknown) => ofJob(jobId, "retry", { includeUnknown: includeUnknown ? "true" : "" }),
  redeliver: (jobId) => ofJob(jobId, "redeliver"),
  reasons: () => address("reasons"),
  handles: (query) => address("cmHandles", query),
  owner: (fdn) => address("cmHandles/owner", { fdn }),
  children: (fdn, cursor, limit) => address("cmHandles/children", { fdn, cursor, limit }),
  /** The manifest at a `resultsuri`. Its host is not used: what is shown comes from the page's own origin. */
  manifest: (resultsuri) => {
    const { pathname, search } = new URL(resultsuri, ROOT);
    return new URL(pathname + search, location.origin);
  },
  /** One result object, by its key, beside the manifest. */
  object: (manifest, key) => {
    const path = String(key).split("/").map(encodeURIComponent).join("/");
    return new URL(`${manifest.pathname.replace(/\/$/, "")}/${path}`, location.origin);
  },
};

export const token = {
  get: () => sessionStorage.getItem(TOKEN),
  set: (text) => sessionStorage.setItem(TOKEN, text),
  forget: () => sessionStorage.removeItem(TOKEN),
};

let askToken = async () => null;
let asking = null;

/** `ask(wasRefused)` resolves to a token or to null; it is called once however many calls are waiting. */
export function onTokenNeeded(ask) {
  askToken = ask;
}

async function renewed(used) {
  if (token.get() !== used) return token.get() !== null;
  asking ??= askToken(used !== null).finally(() => { asking = null; });
  return (await asking) !== null;
}

async function problemOf(response) {
  const text = (await response.text()).slice(0, 200_000);
  let body = {};
  try {
    body = JSON.parse(text) ?? {};
  } catch {
    body = { detail: response.headers.get("content-type")?.startsWith("text/plain") ? text.slice(0, 500) : "" };
  }
  return new Problem(response.status, { ...body, retryAfter: response.headers.get("retry-after") });
}

/** The answer to a call, when it is a good one; a `Problem` otherwise. After a 401 the reader is asked for a token. */
export async function call(url, options = {}) {
  for (;;) {
    const used = token.get();
    const headers = { Accept: "application/json, application/problem+json", ...options.headers };
    if (used !== null) headers.Authorization = `Bearer ${used}`;
    let response;
    try {
      response = await fetch(url, { cache: "no-store", ...options, headers, redirect: "error" });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Problem(0, { detail: "No answer was received." });
    }
    if (response.ok) return response;
    if (response.status === 401 && (await renewed(used))) continue;
    throw await problemOf(response);
  }
}

export const getJson = async (url, signal) => (await call(url, { signal })).json();
export const post = async (url, options = {}) => (await call(url, { method: "POST", ...options })).json();
