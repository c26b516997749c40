import { ScanoutError } from '../../src/sys/errors.ts';

/** `missing`: the compositor lacks what a window cannot do without. */
export class WaylandOutputError extends ScanoutError<'missing'> {}
