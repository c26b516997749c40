import { ScanoutError } from '../../src/core/errors.ts';

/** `missing`: the compositor lacks what a window cannot do without. */
export class WaylandOutputError extends ScanoutError<'missing'> {}
