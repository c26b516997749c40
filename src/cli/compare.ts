import { Command } from 'commander';
import { packageFile } from '../sys/package-file.ts';
import { addCompareOptions, compareOptionsOf, type ComparisonFlags } from './control-options.ts';
import { print, printJson } from './terminal.ts';

/** A file that cannot be read or written exits with 2, as a wrong command line. */
const EXIT_DIFFERENT = 1;

interface Options extends ComparisonFlags {
  diff?: string;
  json?: true;
}

export function command(): Command {
  const picture = packageFile('fixtures/console.png');
  const self = new Command('compare')
    .argument('<expected.png>', 'the expected picture')
    .argument('<actual.png>', 'the actual picture')
    .option('--diff <out.png>', 'write a picture of the differences: red on a pale copy of the actual picture')
    .option('--json', 'print the result as JSON');
  return addCompareOptions(self)
    .addHelpText(
      'after',
      `\nThe exit code is 0 if the pictures match, 1 if they differ, 2 if they could not be compared.\n\nExample:\n  $ scanout compare ${picture} ${picture} --mask 200x16+1080+0 --diff /tmp/diff.png`,
    )
    .action(run);
}

async function run(expected: string, actual: string, options: Options): Promise<void> {
  const { diff = null, json } = options;
  const { compareFiles } = await import('./comparison.ts');
  const comparison = await compareFiles(expected, actual, compareOptionsOf(options), diff);
  const { matches, comparedPixels, explanation } = comparison;
  if (json) {
    printJson({ expected, actual, diff, ...comparison });
  } else {
    const verdict = matches
      ? explanation === ''
        ? `${comparedPixels} pixels are equal`
        : `within the allowance: ${explanation}`
      : explanation;
    print(`${actual}: ${verdict}`);
  }
  if (!matches) process.exitCode = EXIT_DIFFERENT;
}
