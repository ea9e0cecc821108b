// Every text of the page. A translation replaces this file.

const number = new Intl.NumberFormat("en");
const count = (n, one, many) => `${number.format(n)} ${n === 1 ? one : many}`;
const milliseconds = (value) => `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;

export const texts = {
  add: "Add to the index",
  addKey: "Key, such as a path (optional)",
  addLabel: "Label (optional)",
  addStore: "Keep the image on the server",
  addTitle: "Add this image",
  bits: "Bits of the code",
  cancel: "Cancel",
  choose: "Choose an image",
  count: "Number of results",
  csv: "Save as CSV",
  distance: "Largest distance",
  dropHint: "Drop an image here, or paste one with Ctrl+V.",
  facts: "About the index",
  json: "Save as JSON",
  key: "API key",
  keyAbout: "The key stays in the memory of this page until you close or reload it.",
  keySet: "Use this key",
  keyTitle: "API key",
  label: "Only the label",
  photograph: "Take a photo",
  query: "Query",
  remove: "Remove",
  removeTitle: "Remove this item?",
  rerank: "Sort again by float hash values",
  results: "Results",
  skip: "Go to the results",
  title: "Image search",
};

export const say = {
  added: (ids) => `The image is in the index as item ${ids.join(", ")}.`,
  anyLabel: (labels) => (labels === null ? "all" : `all (${count(labels, "label", "labels")})`),
  byCode: (code) => `The query is the code ${code}.`,
  byFile: (name) => `The query is the image ${name}.`,
  byItem: (key, id) => `The query is item ${id}${key ? `: ${key}` : ""}.`,
  distance: (d, bits) => (d >= bits ? "no limit" : `${d} of ${bits} bits`),
  empty: "No item of the index fits.",
  failed: "The service cannot be reached. Is it still running?",
  found: (n) => `${count(n, "item", "items")} found.`,
  itemsShown: (n) => number.format(n),
  labelled: (label, items) => `${label} (${number.format(items)})`,
  latency: (t) =>
    [
      t.encode > 0 ? `Decoding ${milliseconds(t.decode)}, encoding ${milliseconds(t.encode)}. ` : "",
      t.queue >= 1 ? `Waiting for the encoder ${milliseconds(t.queue)}. ` : "",
      `Searching ${milliseconds(t.search)}, ${milliseconds(t.total)} in all.`,
    ].join(""),
  noKey: "This service asks for an API key.",
  noPicture: "no picture",
  notImage: "This is not an image file.",
  otherLabel: "other label",
  precision: (right, n, label) =>
    `${number.format(right)} of ${number.format(n)} have the label ${label} of the query: ` +
    `precision ${((100 * right) / n).toFixed(1)} %.`,
  queryAlt: "the query",
  queryLabel: (label) => `Its label is ${label}.`,
  rank: (n) => `${n.rank} · distance ${n.distance}`,
  removeItem: (n) => `Remove item ${n.id} from the index`,
  removed: (id) => `Item ${id} is removed.`,
  rerankOff: "off",
  rerankOf: (n) => `the nearest ${number.format(n)}`,
  searchOn: (n) => `Search with item ${n.id}`,
  searching: "Searching …",
  strip: (code, bits) => `code ${code} of ${bits} bits`,
  stripAbout: (places, bits) =>
    places.length
      ? `They differ in ${count(places.length, "bit", "bits")} of ${bits}: ${places.join(", ")}.`
      : `All ${bits} bits are equal.`,
  stripHint: "Point at a result to see the bits in which it differs.",
  summary: (f) =>
    `${count(f.items, "image", "images")}, ${f.bits} bits each` +
    (f.label_count ? `, ${count(f.label_count, "label", "labels")}` : ""),
  ties: (a) =>
    a.at_last_distance > a.shown
      ? `${count(a.at_last_distance, "item", "items")} of the index are at distance ` +
        `${a.last_distance}, and ${number.format(a.shown)} of them are shown. ` +
        "Which of them are shown has no meaning."
      : "",
  unfit: "The model and the index do not fit, so that images cannot be searched.",
};

// Rows of the list of facts: a name, and a function of the facts that returns a text or null.
export const factRows = [
  ["Images", (f) => number.format(f.items)],
  ["Bits of a code", (f) => `${f.bits}`],
  ["Different codes", (f) => (f.distinct_codes === null ? null : number.format(f.distinct_codes))],
  ["Search", (f) => f.backend + (f.recall_reached ? `, recall ${f.recall_reached.toFixed(3)}` : "")],
  ["Size", (f) => (f.megabytes === null ? null : `${number.format(f.megabytes)} MB`)],
  ["Changes", (f) => number.format(f.changes)],
  ["Model", (f) => f.model.fingerprint && f.model.fingerprint.slice(0, 12)],
  ["Image size of the model", (f) => f.model.image_size && `${f.model.image_size} pixels`],
  ["Classes of the model", (f) => (f.model.classes.length ? f.model.classes.join(", ") : null)],
  ["dah_tf", (f) => f.version],
];
