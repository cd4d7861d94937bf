// Asking before something that matters.

import { h, fresh } from './dom.js';

/** Whether the one who is asked agrees. */
export function confirmed(question, consequence, verb) {
  const title = fresh('dialog');
  return new Promise((resolve) => {
    const close = (answer) => () => dialog.close(answer);
    const dialog = h('dialog', { 'aria-labelledby': title },
      h('h2', { id: title }, question),
      h('p', {}, consequence),
      h('div', { class: 'dialog-buttons' },
        h('button', { type: 'button', onclick: close('no') }, 'Leave it as it is'),
        h('button', { type: 'button', class: 'primary', onclick: close('yes') }, verb)));
    dialog.addEventListener('close', () => {
      dialog.remove();
      resolve(dialog.returnValue === 'yes');
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
