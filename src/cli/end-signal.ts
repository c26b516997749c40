/**
 * Resolves with the first SIGINT or SIGTERM from now on, which ends the process no more: whoever
 * waits gives back what he holds. A second one of the same kind does not wait.
 */
export function endSignal(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    process.once('SIGINT', resolve);
    process.once('SIGTERM', resolve);
  });
}
