import fc from 'fast-check';

/** CI repeats itself: new examples are for developers, who can look at what they find. */
if (process.env['CI'] === 'true') fc.configureGlobal({ seed: 20261121 });
