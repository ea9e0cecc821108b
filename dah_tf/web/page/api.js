// Requests to the service. Addresses are relative, so that a path prefix of a proxy is kept.

let key = null; // in memory only

export const setKey = (value) => {
  key = value || null;
};
export const hasKey = () => key !== null;

export class Problem extends Error {
  constructor(status, code, detail) {
    super(detail);
    this.status = status;
    this.code = code;
  }
}

async function request(path, options = {}) {
  const headers = new Headers(options.headers);
  if (key) headers.set("Authorization", `Bearer ${key}`);
  const answer = await fetch(path, { ...options, headers, credentials: "omit" });
  if (answer.ok) return answer;
  const told = await answer.json().catch(() => ({}));
  throw new Problem(answer.status, told.code || "", told.detail || answer.statusText);
}

const json = (value) => ({
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify(value),
});
const named = (values) => {
  const found = Object.entries(values).filter(([, value]) => value !== null && value !== "");
  return new URLSearchParams(found).toString();
};

export const facts = async () => (await request("v1/index")).json();
export const item = async (id) => (await request(`v1/items/${id}`)).json();

// `query` is {file}, {id} or {code}; `options` are k, max_distance, label and rerank.
export async function search(query, options, signal) {
  const known = Object.fromEntries(
    Object.entries(options).filter(([, value]) => value !== null && value !== ""),
  );
  const sent = query.file
    ? [`v1/search?${named(options)}`, { method: "POST", body: query.file, headers: body(query.file) }]
    : ["v1/search", json({ ...query, ...known })];
  return (await request(sent[0], { ...sent[1], signal })).json();
}

export async function add(file, options) {
  const path = `v1/items?${named(options)}`;
  return (await request(path, { method: "POST", body: file, headers: body(file) })).json();
}

export const remove = (id) => request(`v1/items/${id}`, { method: "DELETE" });

const body = (file) => ({
  "Content-Type": file.type.startsWith("image/") ? file.type : "application/octet-stream",
});

export const thumbnail = (id, side = 192) => `v1/items/${id}/thumbnail?side=${side}`;

// An <img> sends no key, so that a picture is then loaded as a blob.
export async function show(image, path) {
  if (!key) {
    image.src = path;
    return;
  }
  try {
    const url = URL.createObjectURL(await (await request(path)).blob());
    image.addEventListener("load", () => URL.revokeObjectURL(url), { once: true });
    image.src = url;
  } catch {
    image.dispatchEvent(new Event("error"));
  }
}
