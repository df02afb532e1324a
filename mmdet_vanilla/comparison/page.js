'use strict';
// Sorts the table by the heading that is clicked; empty cells stay at the end.
(() => {
  const table = document.getElementById('results');
  const body = table.tBodies[0];
  const headings = [...table.tHead.rows[0].cells];
  const sortBy = (heading, index) => {
    const numeric = heading.classList.contains('number');
    const first = numeric && heading.dataset.key.startsWith('AP') ? 'descending' : 'ascending';
    const other = { ascending: 'descending', descending: 'ascending' };
    const order = other[heading.getAttribute('aria-sort')] || first;
    const sign = order === 'ascending' ? 1 : -1;
    const value = (row) => row.cells[index].dataset.value;
    const rows = [...body.rows].sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === '' || y === '') return (x === '') - (y === '');
      return sign * (numeric ? Number(x) - Number(y) : x.localeCompare(y));
    });
    headings.forEach((cell) => cell.setAttribute('aria-sort', 'none'));
    heading.setAttribute('aria-sort', order);
    body.append(...rows);
  };
  headings.forEach((heading, index) => {
    heading.addEventListener('click', () => sortBy(heading, index));
    heading.addEventListener('keydown', (event) => {
      if (event.key === 'Enter' || event.key === ' ') {
        event.preventDefault();
        sortBy(heading, index);
      }
    });
  });
})();
