// One column of each picture, all rows: {bottom, rows, columns, left: [[r, g, b] …], right: likewise}.
(column) => {
  const canvas = document.getElementById("waterfall");
  const context = canvas.getContext("2d");
  const [bottom, rows, lineHeight, columns, gap] = ["bottom", "rows", "lineHeight", "columns", "gap"].map((name) =>
    Number(canvas.dataset[name]),
  );
  const strip = (left) => {
    const { data } = context.getImageData(left, canvas.height - rows * lineHeight, 1, rows * lineHeight);
    return Array.from({ length: rows }, (_, row) => Array.from(data.slice(4 * row * lineHeight, 4 * row * lineHeight + 3)));
  };
  return { bottom, rows, columns, left: strip(column), right: strip(columns + gap + column) };
};
