import { Command } from 'commander';
import { controlOption } from './control-options.ts';
import { packageVersion } from '../sys/package-file.ts';
import { printError } from './terminal.ts';

export function command(): Command {
  return new Command('mcp')
    .addOption(controlOption())
    .addHelpText(
      'after',
      '\nAn MCP server on standard input and output, for a program such as an agent that starts it. Its tools look at the guest of a running bridge, type, press keys, click, drag, scroll, touch and wait. It may read PNG files as golden pictures, and does nothing else. docs/control.md has an example for clients.\n\nExample:\n  $ scanout mcp </dev/null',
    )
    .action(async ({ control }: { control: string }) => {
      // The SDK takes as long to load as all of this command, so that no other command loads it, not even for help.
      const { serveStdio } = await import('@modelcontextprotocol/server/stdio');
      const { createMcpServer } = await import('./mcp-server.ts');
      serveStdio(() => createMcpServer(control, packageVersion()), {
        onerror: ({ message }) => printError(`scanout mcp: ${message}`),
      });
    });
}
