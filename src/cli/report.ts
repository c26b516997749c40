import { join } from 'node:path';
import { Command } from 'commander';
import { resultsDirectory, writeReport } from '../../display/picture/results.ts';
import { print } from './terminal.ts';

export function command(): Command {
  return new Command('report')
    .argument('[directory]', 'the results folder of the run', resultsDirectory())
    .option('-o, --output <report.html>', 'the file to write (default: report.html in the directory)')
    .addHelpText('after', '\nExample:\n  $ scanout report test-results/scanout --output /tmp/report.html')
    .action(async (directory: string, { output = join(directory, 'report.html') }: { output?: string }) => {
      const count = await writeReport(directory, output);
      print(`${output}: ${count} screenshots`);
    });
}
