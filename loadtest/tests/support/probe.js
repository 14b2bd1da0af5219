// What a person would see of the page: run in it by the test, never a part of it.
(() => {
  const visible = (element) => element.getClientRects().length > 0;
  const rgb = (colour) => (colour.match(/[\d.]+/g) || []).map(Number);
  const luminance = (colour) => {
    const [r, g, b] = rgb(colour).map((part) => {
      const share = part / 255;
      return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (a, b) => {
    const [dark, light] = [luminance(a), luminance(b)].sort((x, y) => x - y);
    return (light + 0.05) / (dark + 0.05);
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (rgb(colour).length === 3 || rgb(colour)[3] > 0) return colour;
    }
    return 'rgb(255, 255, 255)';
  };
  const charts = [...document.querySelectorAll('svg.chart')].filter(visible).map((svg) => {
    const frame = svg.getBoundingClientRect();
    const texts = [...svg.querySelectorAll('text')];
    const boxes = texts.map((text) => ({ text: text.textContent, box: text.getBoundingClientRect() }));
    const overlaps = [];
    boxes.forEach(({ text, box }, index) => {
      for (const other of boxes.slice(index + 1)) {
        const across = Math.min(box.right, other.box.right) - Math.max(box.left, other.box.left);
        const down = Math.min(box.bottom, other.box.bottom) - Math.max(box.top, other.box.top);
        // Boxes are higher than letters.
        if (across > 0.5 && down > 5) overlaps.push(`${text} / ${other.text}`);
      }
    });
    return {
      title: svg.querySelector('title').textContent,
      described: svg.querySelector('desc').textContent.length > 10,
      width: frame.width,
      lines: [...svg.querySelectorAll('path.line')]
        .filter((path) => (path.getAttribute('d').match(/L/g) || []).length > 3)
        .map((path) => ({
          points: path.getAttribute('d').match(/L/g).length,
          length: path.getTotalLength(),
          contrast: contrast(getComputedStyle(path).stroke, behind(svg.parentElement)),
        })),
      overlaps,
      outside: boxes
        .filter(({ box }) => box.left < frame.left - 1 || box.right > frame.right + 1.5)
        .map(({ text }) => text),
      letters: Math.min(...texts.map((text) => parseFloat(getComputedStyle(text).fontSize))) *
        (frame.width / svg.viewBox.baseVal.width),
    };
  });
  const texts = [...document.querySelectorAll('h1,h2,h3,p,th,td,dt,dd,b,span,summary,pre,.chart text')]
    .filter((element) => visible(element) && element.textContent.trim());
  const faintest = texts
    .map((element) => {
      const style = getComputedStyle(element);
      const colour = element instanceof SVGElement ? style.fill : style.color;
      return [contrast(colour, behind(element.closest('svg')?.parentElement || element)), element.textContent];
    })
    .sort((a, b) => a[0] - b[0])[0];
  return {
    background: luminance(getComputedStyle(document.body).backgroundColor),
    charts,
    faintest,
    rows: [...document.querySelectorAll('tr')].map((row) => [...row.cells].map((cell) => cell.textContent)),
    scripts: document.scripts.length,
    sections: [...document.querySelectorAll('h2')].map((it) => it.textContent),
    text: document.body.innerText,
    width: document.documentElement.scrollWidth,
    window: innerWidth,
  };
})()
