/**
 * Writes package-lock.json of the folder given as argument, fit to be committed: no URLs, and no optional package
 * that was never published (npm install tolerates those, npm ci does not).
 *
 *   node tests/setup/lock.mjs tests/fleet/npm
 */
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const [folder] = process.argv.slice(2);
execFileSync('npm', ['install', '--package-lock-only', '--ignore-scripts'], { cwd: folder, stdio: 'inherit' });

const file = join(folder, 'package-lock.json');
const lock = JSON.parse(readFileSync(file, 'utf8'));
const locked = name => Object.keys(lock.packages).some(path => path.endsWith(`node_modules/${name}`));
for (const entry of Object.values(lock.packages)) {
    delete entry.funding;
    for (const name of Object.keys(entry.optionalDependencies ?? {})) {
        if (!locked(name)) delete entry.optionalDependencies[name];
    }
}
writeFileSync(file, JSON.stringify(lock, null, 2) + '\n');
