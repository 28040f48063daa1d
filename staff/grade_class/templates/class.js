const table = document.getElementById("table"), body = table.tBodies[0], rows = [...body.rows];
const search = document.getElementById("search"), found = document.getElementById("found");
search.parentElement.hidden = false;

search.addEventListener("input", () => {
  const words = search.value.toLowerCase().split(/\s+/);
  let count = 0;
  for (const row of rows) {
    const text = row.textContent.toLowerCase();
    row.hidden = !words.every((word) => text.includes(word));
    count += !row.hidden;
  }
  found.textContent = `${count} of ${rows.length}`;
});

for (const heading of table.tHead.rows[0].cells) {
  heading.querySelector("button").addEventListener("click", () => {
    const column = heading.cellIndex, isNumber = heading.classList.contains("number");
    const isUp = heading.getAttribute("aria-sort") ? heading.getAttribute("aria-sort") === "descending" : !isNumber;
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", isUp ? "ascending" : "descending");
    const value = (row) => row.cells[column].textContent.trim();
    rows.sort((a, b) => {
      const x = value(a), y = value(b);
      if (!x || !y) return !x - !y; // rows without a value stay at the end
      return (isNumber ? x - y : x.localeCompare(y)) * (isUp ? 1 : -1);
    });
    body.append(...rows);
  });
}
