// The address bar holds the query and its options, so that "back" works and links can be shared.

export const defaults = { k: 20, distance: null, label: "", rerank: 0 };

const whole = (text) => (/^\d{1,15}$/.test(text ?? "") ? Number(text) : null);

// Returns {query, options}: the query is {id}, {code} or null. What makes no sense is left out.
export function read(search) {
  const found = new URLSearchParams(search);
  const id = whole(found.get("id"));
  const code = found.get("code");
  const query = id !== null ? { id } : /^[0-9a-f]{1,64}$/.test(code ?? "") ? { code } : null;
  const options = {
    k: Math.max(1, whole(found.get("k")) ?? defaults.k),
    distance: whole(found.get("distance")),
    label: found.get("label") ?? "",
    rerank: whole(found.get("rerank")) ?? 0,
  };
  return { query, options };
}

export function write(query, options) {
  const found = new URLSearchParams();
  if (query?.id !== undefined) found.set("id", query.id);
  else if (query?.code) found.set("code", query.code);
  for (const [name, value] of Object.entries(options))
    if (value !== defaults[name] && value !== null) found.set(name, value);
  const text = found.toString();
  return text ? `?${text}` : location.pathname;
}
