'use strict';
// The map of the codes: points are drawn into an image, so that 100,000 of them move smoothly.
(() => {
  const canvas = document.getElementById('map');
  const tooltip = document.getElementById('tooltip');
  const data = JSON.parse(document.getElementById('map-data').textContent);
  const ctx = canvas.getContext('2d');
  const EMPTY = 255, EDGE = 65535, GRID = 256, REACH = 12, WHOLE = 1.08;

  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
  function bytes(text) {
    const raw = atob(text), out = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i++) out[i] = raw.charCodeAt(i);
    return out;
  }
  const n = data.count, xy = new Uint16Array(bytes(data.xy).buffer), level = bytes(data.level);
  const flags = bytes(data.alarm), alarm = i => flags[i >> 3] >> (i & 7) & 1;
  const named = new Map(data.named.map(entry => [entry[0], entry]));

  // Rows by number: differences, seven bits a byte; without them every row is on the map.
  const row = Float64Array.from({ length: n }, (_, i) => i);
  let last = 0, scale = 1, filled = 0;
  for (const byte of bytes(data.row)) {
    last += (byte & 127) * scale;
    scale *= 128;
    if (byte < 128) { row[filled++] = last; scale = 1; }
  }

  // Points sorted by a small key: by level to draw the strangest last, by cell to find one fast.
  function sorted(key, kinds) {
    const start = new Uint32Array(kinds + 1), order = new Uint32Array(n);
    for (let i = 0; i < n; i++) start[key(i) + 1]++;
    for (let k = 0; k < kinds; k++) start[k + 1] += start[k];
    for (let i = 0, next = start.slice(); i < n; i++) order[next[key(i)]++] = i;
    return { start, order };
  }
  const drawn = sorted(i => (level[i] + 1) & 255, 256).order;
  const cells = sorted(i => (xy[2 * i + 1] >> 8) * GRID + (xy[2 * i] >> 8), GRID * GRID);

  // Cividis (Nuñez, Anderton and Renslow 2018): its order survives colour blindness and grey.
  const CIVIDIS = [0x00224e, 0x2a3f6d, 0x575d6d, 0x7d7c78, 0xa59c74, 0xd2c060, 0xfee838];
  const abgr = rgb => (255 << 24 | (rgb & 255) << 16 | (rgb & 0xff00) | rgb >> 16) >>> 0;
  function cividis(t) {
    const at = t * (CIVIDIS.length - 1), i = clamp(Math.floor(at), 0, CIVIDIS.length - 2), f = at - i;
    const mix = s => Math.round((CIVIDIS[i] >> s & 255) * (1 - f) + (CIVIDIS[i + 1] >> s & 255) * f);
    return mix(16) << 16 | mix(8) << 8 | mix(0);
  }
  // Levels: colours of Okabe and Ito (2008), then lighter ones; the last two are others and gaps.
  const LEVELS = [0x0072b2, 0xe69f00, 0x009e73, 0xcc79a7, 0x56b4e9, 0xd55e00, 0xb3a500, 0x7f6bb3,
    0x8c564b, 0x66a182, 0x4d6fa8, 0x9a9a9a];
  const MISSING = 15;
  const columns = data.colours.map(one => ({ ...one, values: bytes(one.values) }));
  let column = null;
  const valueOf = i => column.values[i >> 1] >> 4 * (i & 1) & 15;
  const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const paint = name => abgr(parseInt(css(name).slice(1), 16));
  const colour = new Uint32Array(256);
  let ring = 0, halo = 0;
  function mix() {
    const down = css('--strange-is-dark') === '1', [low, high] = data.ends;
    const shade = t => cividis(down ? 0.86 * (1 - t) : 0.28 + 0.72 * t);
    const at = knot => clamp((knot - low) / (high - low || 1), 0, 1);
    colour.set(data.knots.map(knot => abgr(shade(at(knot)))));
    colour[EMPTY] = paint('--rule');
    [ring, halo] = [paint('--alarm'), paint('--card')];
    if (column) {
      colour.fill(paint('--rule'));
      for (let v = 0; v < MISSING; v++)
        colour[v] = abgr(column.names.length ? LEVELS[Math.min(v, LEVELS.length - 1)] : shade(v / 14));
    }
    const scale = document.getElementById('scale'), pen = scale.getContext('2d');
    for (let x = 0; x < scale.width; x++) {
      pen.fillStyle = '#' + shade(x / scale.width).toString(16).padStart(6, '0');
      pen.fillRect(x, 0, 1, scale.height);
    }
  }

  // The view: its middle in shares of the whole, and how much of the whole is in sight.
  let cx = 0.5, cy = 0.5, span = WHOLE, image = null, pixels = null, queued = false, chosen = -1;
  const toX = i => ((xy[2 * i] / EDGE - cx) / span + 0.5) * canvas.width;
  const toY = i => (0.5 - (xy[2 * i + 1] / EDGE - cy) / span) * canvas.height;
  function stamp(i, spots, value, w, h) {
    const x = Math.round(toX(i)), y = Math.round(toY(i));
    for (let k = 0; k < spots.length; k += 2) {
      const px = x + spots[k], py = y + spots[k + 1];
      if (px >= 0 && py >= 0 && px < w && py < h) pixels[py * w + px] = value;
    }
  }
  function spots(radius, keep) {
    const out = [];
    for (let dy = -radius; dy <= radius; dy++)
      for (let dx = -radius; dx <= radius; dx++) if (keep(Math.abs(dx), Math.abs(dy))) out.push(dx, dy);
    return Int8Array.from(out);
  }
  function draw() {
    queued = false;
    const w = canvas.width, h = canvas.height, dpr = devicePixelRatio || 1;
    pixels.fill(0);
    const sparse = n < 400 ? 2 : n < 8000 ? 1 : 0;
    const size = Math.round((0.6 + sparse + Math.min(2, Math.log2(WHOLE / span) * 0.4)) * dpr);
    const dot = spots(size, (x, y) => x * x + y * y <= size * size + size);
    for (const i of drawn) stamp(i, dot, colour[column ? valueOf(i) : level[i]], w, h);
    const out = size + Math.round(clamp(w / 150, 2 * dpr, 4 * dpr)), wide = Math.round(2 * dpr);
    const edge = spots(out, (x, y) => x + y > out - wide && x + y <= out);
    const inner = spots(out, (x, y) => x + y <= out - wide && x * x + y * y > size * size + size);
    for (const i of drawn.filter(alarm)) {
      stamp(i, inner, halo, w, h);
      stamp(i, edge, ring, w, h);
    }
    show();
  }
  function show() {
    ctx.putImageData(image, 0, 0);
    if (chosen < 0) { tooltip.hidden = true; return; }
    const dpr = devicePixelRatio || 1, x = toX(chosen), y = toY(chosen);
    Object.assign(ctx, { strokeStyle: css('--ink'), lineWidth: 2 * dpr });
    ctx.beginPath();
    ctx.arc(x, y, 8 * dpr, 0, 7);
    ctx.stroke();
    const box = canvas.getBoundingClientRect(), left = x / dpr, top = y / dpr;
    tooltip.hidden = left < 0 || top < 0 || left > box.width || top > box.height;
    const right = left > box.width / 2, low = top > box.height / 2;
    tooltip.style.transform = `translate(${left + (right ? -14 : 14)}px, ${top + (low ? -14 : 14)}px) ` +
      `translate(${right ? -100 : 0}%, ${low ? -100 : 0}%)`;
  }
  function again() { if (!queued) { queued = true; requestAnimationFrame(draw); } }

  function inWords(value) {
    if (value === MISSING) return 'missing';
    if (column.names.length) return column.names[value];
    return `higher than ${Math.round(100 * value / MISSING)} % of rows`;
  }
  const byId = id => document.getElementById(id);
  function colourBy(place) {
    column = columns[place] || null;
    const levels = column && column.names.length;
    byId('scale-legend').hidden = Boolean(levels);
    byId('scale-low').textContent = column ? column.ends[0] : 'typical';
    byId('scale-high').textContent = column ? column.ends[2] : 'anomalous';
    byId('level-legend').replaceChildren(...(levels ? column.names : []).map((text, i) => {
      const item = document.createElement('span'), swatch = document.createElement('b');
      swatch.style.background = '#' + LEVELS[Math.min(i, LEVELS.length - 1)].toString(16).padStart(6, '0');
      item.append(swatch, text);
      return item;
    }));
    choose(-1);
    mix();
    again();
  }
  byId('colour').addEventListener('change', e => colourBy(Number(e.target.value)));

  function choose(i) {
    if (i === chosen) return;
    chosen = i;
    if (i >= 0) {
      const line = (kind, text) => Object.assign(document.createElement(kind), { textContent: text });
      const [, name, exact, reasons, std] = named.get(i) || [i, `row ${row[i] + 1}`, null, [], null];
      const score = exact ?? data.knots[level[i]];
      const times = score.toFixed(2) + (std === null ? '' : ` ± ${std.toFixed(2)}`);
      const text = level[i] === EMPTY ? 'no observed value' : `anomaly score ${times}`;
      const own = column ? [line('span', `${column.name}: ${inWords(valueOf(i))}`)] : [];
      tooltip.replaceChildren(line('b', name), line('span', text + (alarm(i) ? ', alarm' : '')), ...own,
        ...reasons.map(([column, value, expected, share]) =>
          line('span', `${column} = ${value}${expected && `, expected ${expected}`}: ${Math.round(100 * share)} % of it`)));
    }
    show();
  }
  function nearest(mx, my) {
    const scaleX = canvas.width / span, scaleY = canvas.height / span, dpr = devicePixelRatio || 1;
    const x = (mx * dpr / canvas.width - 0.5) * span + cx, y = (0.5 - my * dpr / canvas.height) * span + cy;
    const cell = value => clamp(Math.floor(value * GRID), 0, GRID - 1);
    const rx = REACH * dpr / scaleX, ry = REACH * dpr / scaleY;
    let best = -1, least = (REACH * dpr) ** 2;
    for (let gy = cell(y - ry); gy <= cell(y + ry); gy++) {
      const at = gy * GRID;
      for (let k = cells.start[at + cell(x - rx)]; k < cells.start[at + cell(x + rx) + 1]; k++) {
        const i = cells.order[k];
        const far = (toX(i) - mx * dpr) ** 2 + (toY(i) - my * dpr) ** 2 - (alarm(i) ? 9 * dpr : 0);
        if (far < least) { least = far; best = i; }
      }
    }
    return best;
  }
  function look(x, y, wide) {
    [cx, cy, span] = [clamp(x, 0, 1), clamp(y, 0, 1), wide];
    again();
  }
  const move = (dx, dy) => look(cx + dx * span, cy + dy * span, span);
  function zoom(factor, x = 0.5, y = 0.5) {
    const next = clamp(span / factor, 1e-3, WHOLE);
    look(cx + (x - 0.5) * (span - next), cy + (0.5 - y) * (span - next), next);
  }
  const share = e => [e.offsetX / canvas.clientWidth, e.offsetY / canvas.clientHeight];
  canvas.addEventListener('pointerdown', e => canvas.setPointerCapture(e.pointerId));
  canvas.addEventListener('pointermove', e => {
    if (e.buttons & 1) move(-e.movementX / canvas.clientWidth, e.movementY / canvas.clientHeight);
    else choose(nearest(e.offsetX, e.offsetY));
  });
  canvas.addEventListener('click', e => choose(nearest(e.offsetX, e.offsetY)));
  canvas.addEventListener('pointerleave', () => choose(-1));
  canvas.addEventListener('dblclick', e => zoom(2, ...share(e)));
  canvas.addEventListener('wheel', e => {
    if (document.activeElement !== canvas && !e.ctrlKey) return;
    e.preventDefault();
    zoom(Math.exp(-e.deltaY / 400), ...share(e));
  }, { passive: false });
  const KEYS = { ArrowLeft: () => move(-0.1, 0), ArrowRight: () => move(0.1, 0), ArrowUp: () => move(0, 0.1),
    ArrowDown: () => move(0, -0.1), '+': () => zoom(1.5), '=': () => zoom(1.5), '-': () => zoom(1 / 1.5),
    0: () => look(0.5, 0.5, WHOLE), Escape: () => choose(-1) };
  canvas.addEventListener('keydown', e => {
    if (e.ctrlKey || e.metaKey || e.altKey || !KEYS[e.key]) return;
    e.preventDefault();
    KEYS[e.key]();
  });
  for (const button of document.querySelectorAll('[data-key]'))
    button.addEventListener('click', () => KEYS[button.dataset.key]());
  for (const button of document.querySelectorAll('[data-point]'))
    button.addEventListener('click', () => {
      const i = Number(button.dataset.point), x = xy[2 * i] / EDGE, y = xy[2 * i + 1] / EDGE;
      const away = Math.max(Math.abs(x - cx), Math.abs(y - cy)) > 0.47 * span;
      choose(i);
      if (away) look(x, y, span);
      canvas.scrollIntoView({ block: 'nearest' });
    });

  const theme = () => { mix(); again(); };
  addEventListener('theme', theme);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', theme);
  new ResizeObserver(() => {
    const dpr = devicePixelRatio || 1;
    canvas.width = Math.max(1, Math.round(canvas.clientWidth * dpr));
    canvas.height = Math.max(1, Math.round(canvas.clientHeight * dpr));
    image = ctx.createImageData(canvas.width, canvas.height);
    pixels = new Uint32Array(image.data.buffer);
    draw();
  }).observe(canvas);
  mix();
})();
