'use strict';
// Light, dark or the system theme, stored if the browser allows storage for a file.
(() => {
  const root = document.documentElement;
  const order = ['auto', 'light', 'dark'];
  const recall = () => { try { return localStorage.getItem('keyhole-theme'); } catch { return null; } };
  const keep = theme => { try { localStorage.setItem('keyhole-theme', theme); } catch { /* not here */ } };
  let theme = order.includes(recall()) ? recall() : 'auto';
  root.dataset.theme = theme;
  root.classList.add('scripted');
  document.addEventListener('DOMContentLoaded', () => {
    const button = document.getElementById('theme');
    const say = () => { button.textContent = `Theme: ${theme}`; };
    button.addEventListener('click', () => {
      theme = order[(order.indexOf(theme) + 1) % order.length];
      root.dataset.theme = theme;
      keep(theme);
      say();
      dispatchEvent(new Event('theme'));
    });
    say();
  });
})();
