/** Inside the VM: `node wayland/main.js wayland-dmabuf FLIPS CLIENT` prints measurements as JSON, and progress on stderr. */
import { dmabuf } from './dmabuf.ts';

console.log(JSON.stringify(await dmabuf(process.argv[4]!, console.error)));
