import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium, type Page } from 'playwright-core';

/** What keeps Debian's Chromium from talking to anybody but us. Root has no sandbox. */
const ARGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];

/** A page in a new headless Chromium, which goes with it: `await using browser = await openBrowser(800, 600)`. */
export async function openBrowser(width: number, height: number): Promise<{ page: Page } & AsyncDisposable> {
  const profile = mkdtempSync(join(tmpdir(), 'scanout-chromium-'));
  const context = await chromium.launchPersistentContext(profile, { executablePath: '/usr/bin/chromium', headless: true, args: ARGS, viewport: { width, height } });
  return {
    page: context.pages()[0]!,
    [Symbol.asyncDispose]: async () => {
      await context.close();
      rmSync(profile, { recursive: true, force: true });
    },
  };
}
