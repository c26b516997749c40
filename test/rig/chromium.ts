import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium, type Locator, type Page } from 'playwright-core';
import { eventually } from './eventually.ts';
import { skipWithoutProgram } from './skip.ts';

const PROGRAM = '/usr/bin/chromium';
const PATIENCE_MS = 20_000;

/** For `test.skipIf`. */
export function skipWithoutChromium(): boolean {
  return skipWithoutProgram(PROGRAM);
}

/** Keeps Debian's Chromium from opening connections of its own. Its sandbox does not work as root. */
const ARGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/**
 * Opens an address until a part of the page is there. A browser on a busy machine may speak so late on one of its
 * connections that it gets RFB's greeting, and then lacks a file; its user would open the page again.
 */
export async function goTo(page: Page, url: string, part: Locator): Promise<void> {
  await eventually(async () => {
    await page.goto(url);
    await part.waitFor({ timeout: PATIENCE_MS });
  });
}

/** Opens a page in a new headless Chromium, which dispose closes: `await using browser = await openBrowser(800, 600)`. */
export async function openBrowser(width: number, height: number): Promise<{ page: Page } & AsyncDisposable> {
  const profile = mkdtempSync(join(tmpdir(), 'scanout-chromium-'));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: PROGRAM,
    headless: true,
    args: ARGS,
    viewport: { width, height },
  });
  // A busy machine may take longer than Playwright's half a minute.
  context.setDefaultTimeout(150_000);
  return {
    page: context.pages()[0]!,
    [Symbol.asyncDispose]: async () => {
      await context.close();
      rmSync(profile, { recursive: true, force: true });
    },
  };
}
