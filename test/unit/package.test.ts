/** What package.json promises, checked against the sources. test/host/package.test.ts looks at the packed file. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';

const ROOT = join(import.meta.dirname, '../..');
const read = (file: string): string => readFileSync(join(ROOT, file), 'utf8');
const manifest = JSON.parse(read('package.json')) as {
  exports: Record<string, string | { types: string; default: string }>;
  bin: Record<string, string>;
  files: string[];
  sideEffects: string[];
};
const entries = Object.entries(manifest.exports).filter(([name]) => name !== './package.json');

/** The source that the compiler makes a file in dist of. */
function sourceOf(built: string): string {
  return join(ROOT, built.replace(/^(\.\/)?dist\//, '').replace(/(\.d\.ts|\.js)$/, '.ts'));
}

describe('package.json', () => {
  test.each(entries)('entry %s has types and code, built from one source', (_name, target) => {
    expect(target).toEqual({ types: expect.any(String) as string, default: expect.any(String) as string });
    const { types, default: code } = target as { types: string; default: string };
    // TypeScript stops at the first condition that matches.
    expect(Object.keys(target)).toEqual(['types', 'default']);
    expect(sourceOf(types)).toBe(sourceOf(code));
    expect(existsSync(sourceOf(code)), sourceOf(code)).toBe(true);
  });

  test.each(entries)('entry %s is described in docs/library.md', (name) => {
    expect(read('docs/library.md')).toContain(`\`${name.replace('.', 'scanout-bridge')}\``);
  });

  test('every program and every file with side effects has a source', () => {
    const built = [...Object.values(manifest.bin), ...manifest.sideEffects];

    expect(built.filter((file) => !existsSync(sourceOf(file)))).toEqual([]);
  });

  test('every file to be published exists', () => {
    const files = manifest.files.filter((file) => !file.startsWith('!') && file !== 'dist');

    expect(files.filter((file) => !existsSync(join(ROOT, file)))).toEqual([]);
  });

  test('the desktop file has the name of the windows’ app id, and its icon exists', () => {
    const entry = read('display/wayland/desktop/applications/scanout-bridge.desktop');

    expect(read('display/wayland/window.ts')).toContain("const APP_ID = 'scanout-bridge';");
    expect(entry.split('\n').filter((line) => /^(\[|Type=|Name=|Exec=|Icon=)/.test(line))).toEqual([
      '[Desktop Entry]',
      'Type=Application',
      'Name=scanout-bridge',
      'Icon=scanout-bridge',
      'Exec=scanout',
    ]);
    expect(read('display/wayland/desktop/icons/hicolor/scalable/apps/scanout-bridge.svg')).toContain('<svg');
  });

  test('the lock file names no registry', () => {
    expect(read('package-lock.json')).not.toContain('"resolved"');
  });
});

describe('the workflow of the forge', () => {
  test('runs .ci/run, and a failure of it fails the workflow', () => {
    const workflow = read('.github/workflows/ci.yml');

    expect(workflow).toContain('\n      - run: bash .ci/run\n');
    expect(workflow).not.toMatch(/continue-on-error|\|\| true/);
  });
});

describe('the main entry', () => {
  test('exports exactly these values', async () => {
    const names = Object.keys(await import('../../src/index.ts')).toSorted();

    expect(names).toEqual([
      'Bridge',
      'ClipboardError',
      'DRM_FORMAT',
      'DRM_FORMAT_MOD_INVALID',
      'DRM_FORMAT_MOD_LINEAR',
      'Damage',
      'DmabufImportRefused',
      'ExportDisplay',
      'FormatSet',
      'HeadlessOutput',
      'MAX_CLIPBOARD_BYTES',
      'Mapping',
      'MemoryBudget',
      'OwnedFd',
      'PageRuns',
      'PictureRecorder',
      'PngError',
      'PresentedFlags',
      'QemuDbusError',
      'QemuDbusGuest',
      'Recorder',
      'RecordingError',
      'Replay',
      'ScanoutError',
      'ScatteredMemory',
      'SysError',
      'UsageError',
      'VdagentClipboard',
      'VfioError',
      'VfioGuest',
      'VhostUserGuest',
      'VhostUserInput',
      'VmmDisplay',
      'VmmDisplayError',
      'VncError',
      'VncOutput',
      'comparePictures',
      'createMemfd',
      'dbusByQmp',
      'decodePng',
      'diffPicture',
      'encodePng',
      'keysReadByQmp',
      'newFramebufferId',
      'shareClipboard',
      'virtualMonitor',
      'writePng',
    ]);
  });
});
