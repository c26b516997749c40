import RFB from './novnc/core/rfb.js';

const MAX_ATTEMPTS = 5;
const BRIDGE_MS = 1000;

const element = (id) => document.getElementById(id);
const status = element('status');
const login = element('login');
const follow = element('follow');

let rfb = null;
let password = '';
let attempts = 0;

/** `shared` is false to operate the guest instead of the viewer that does. */
function connect(shared) {
  const before = rfb;
  rfb = null;
  before?.disconnect();
  element('screen').replaceChildren();
  status.textContent = 'Connecting…';
  const url = new URL('websockify', location.href);
  url.protocol = url.protocol.replace('http', 'ws');
  const viewer = new RFB(element('screen'), url.href, { shared, credentials: password ? { password } : {} });
  rfb = viewer;
  viewer.scaleViewport = true;
  viewer.resizeSession = follow.checked;
  viewer.focusOnClick = true;
  const on = (event, listener) => viewer.addEventListener(event, (e) => viewer === rfb && listener(e.detail));
  on('connect', () => {
    attempts = 0;
    status.textContent = shared ? 'Connected' : 'Connected; this window operates the guest';
    viewer.focus();
  });
  on('desktopname', ({ name }) => (document.title = name));
  on('credentialsrequired', () => {
    login.hidden = false;
    status.textContent = 'This guest needs a password';
    element('password').focus();
  });
  on('securityfailure', ({ reason }) => {
    password = '';
    status.textContent = `Refused: ${reason ?? 'the password is wrong'}`;
  });
  on('disconnect', () => {
    if (status.textContent.startsWith('Refused')) return;
    const wasConnecting = status.textContent.startsWith('Connecting');
    status.textContent = 'Disconnected';
    // The server takes a browser that says nothing for a quarter of a second for a viewer of the other kind.
    if (wasConnecting && ++attempts <= MAX_ATTEMPTS) connect(shared);
  });
}

/** Shows what the bridge does, until the server has gone. */
async function showBridge() {
  const response = await fetch('status').catch(() => null);
  const panel = element('bridge');
  panel.hidden = !response?.ok;
  if (panel.hidden) return;
  panel.textContent = (await response.json()).join('\n');
  setTimeout(showBridge, BRIDGE_MS);
}

login.addEventListener('submit', (event) => {
  event.preventDefault();
  password = element('password').value;
  login.hidden = true;
  rfb?.sendCredentials({ password });
});
follow.addEventListener('change', () => {
  if (rfb) rfb.resizeSession = follow.checked;
});
element('power').addEventListener('click', () => rfb?.sendCtrlAltDel());
element('drive').addEventListener('click', () => connect(false));
element('full').addEventListener('click', () => document.documentElement.requestFullscreen());
connect(true);
if (new URLSearchParams(location.search).has('status')) void showBridge();
