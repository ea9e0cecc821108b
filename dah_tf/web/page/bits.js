// Packed codes in hexadecimal: their bits, their differences, and their picture.

export function unpack(code, bits) {
  const found = [];
  for (let place = 0; place < bits; place++) {
    const digit = parseInt(code[place >> 2], 16);
    found.push((digit >> (3 - (place & 3))) & 1);
  }
  return found;
}

// The places in which two codes differ, counted from 1.
export function differing(one, other, bits) {
  const [a, b] = [unpack(one, bits), unpack(other, bits)];
  return a.flatMap((bit, place) => (bit === b[place] ? [] : [place + 1]));
}

// Draws a code as a row of squares: filled for 1, an outline for 0. Marked ones get a line below.
export function draw(canvas, code, bits, marked = []) {
  const scale = window.devicePixelRatio || 1;
  const width = canvas.clientWidth || 300;
  const step = width / bits;
  const side = Math.max(2, Math.min(step - 2, 14));
  const height = side + 8;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const style = getComputedStyle(canvas);
  const colors = { text: style.color, mark: style.getPropertyValue("--wrong").trim() };
  const context = canvas.getContext("2d");
  context.scale(scale, scale);
  const places = new Set(marked);
  unpack(code, bits).forEach((bit, place) => {
    const left = place * step + (step - side) / 2;
    const color = places.has(place + 1) ? colors.mark : colors.text;
    context.fillStyle = context.strokeStyle = color;
    if (bit) context.fillRect(left, 1, side, side);
    else context.strokeRect(left + 0.5, 1.5, side - 1, side - 1);
    if (places.has(place + 1)) context.fillRect(left, side + 4, side, 3);
  });
}
