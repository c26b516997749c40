import { join } from 'node:path';
import { Command } from 'commander';
import { resultsDirectory, writeReport } from '../../display/picture/results.ts';

export function command(): Command {
  return new Command('report')
    .argument('[directory]', 'where the run kept its results', resultsDirectory())
    .option('-o, --output <report.html>', 'the file to write; default: report.html in that directory')
    .addHelpText('after', '\nExample:\n  $ scanout report test-results/scanout --output /tmp/report.html')
    .action(async (directory: string, { output = join(directory, 'report.html') }: { output?: string }) => {
      const count = await writeReport(directory, output);
      console.log(`${output}: ${count} screenshots`);
    });
}
