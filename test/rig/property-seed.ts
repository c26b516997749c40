import fc from 'fast-check';

/** CI always runs the same examples. A developer's machine tries new ones in every run. */
if (process.env['CI'] === 'true') fc.configureGlobal({ seed: 20261121 });
