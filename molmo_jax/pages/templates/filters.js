(() => {
  const bar = document.querySelector('.filters');
  if (!bar) return;
  const task = bar.querySelector('select'), wrong = bar.querySelector('input'), count = bar.querySelector('output');
  const update = () => {
    let shown = 0;
    for (const section of document.querySelectorAll('section[data-task]')) {
      let inSection = 0;
      for (const card of section.querySelectorAll('.card')) {
        card.hidden = (task.value && task.value !== section.dataset.task) ||
            (wrong.checked && !card.classList.contains('wrong'));
        inSection += !card.hidden;
      }
      section.hidden = !inSection;
      shown += inSection;
    }
    count.textContent = shown + (shown === 1 ? ' example' : ' examples');
  };
  bar.addEventListener('input', update);
  bar.hidden = false;
  update();
})();
