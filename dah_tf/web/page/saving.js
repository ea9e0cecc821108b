// Saves an answer as a file.

const COLUMNS = ["rank", "id", "distance", "label", "key", "code"];

// RFC 4180. A text that a spreadsheet would run as a formula is preceded by an apostrophe.
function cell(value) {
  let text = String(value ?? "");
  if (typeof value === "string" && /^[=+\-@\t\r]/.test(text)) text = `'${text}`;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

export const csv = (answer) =>
  [COLUMNS, ...answer.neighbours.map((each) => COLUMNS.map((name) => each[name]))]
    .map((row) => row.map(cell).join(",") + "\r\n")
    .join("");

export const json = (answer) => `${JSON.stringify(answer, null, 1)}\n`;

export function save(name, type, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
