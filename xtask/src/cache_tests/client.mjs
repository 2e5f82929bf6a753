// Runs the client of the public cache tests, and prints what it is about and
// what comes of it in lines that `client.rs` reads: words, and a text, with tabs
// between.
//
//   node client.mjs SUITE list
//   node client.mjs SUITE run BASE AT_ONCE SECONDS SHOW [ID...]
//
// SUITE is the folder of the suite, in either of its layouts; BASE the URL of the
// cache; SECONDS the time after which what has not ended is given up; SHOW is
// `show` to print every exchange.

import fs from 'node:fs'
import { createRequire } from 'node:module'
import path from 'node:path'
import { pathToFileURL } from 'node:url'

/** How often the number of tests that have ended is told, in milliseconds. */
const PROGRESS = 200

const [suite, command, base, atOnce, seconds, show, ...ids] = process.argv.slice(2)

/** Since it has a folder for them, the suite's client uses the platform's `fetch`. */
const engine = path.join(suite, 'test-engine')
const hasEngine = fs.existsSync(engine)

async function load (...names) {
  return import(pathToFileURL(path.join(...names)))
}

function tell (...words) {
  process.stdout.write(words.map(word => String(word).replace(/\s+/g, ' ')).join('\t') + '\n')
}

const groups = (await load(suite, 'tests', 'index.mjs')).default

if (command === 'list') {
  for (const { tests } of groups) {
    for (const test of tests) {
      // Run by browsers only, which is what the suite's client does too.
      if (test.browser_only === true) continue
      tell('test', test.id, test.kind ?? 'required', (test.depends_on ?? []).join(' '))
    }
  }
} else {
  const chosen = new Set(ids)
  const picked = groups.map(group => ({
    ...group,
    tests: group.tests.filter(test => chosen.size === 0 || chosen.has(test.id))
  }))
  if (show === 'show') picked.forEach(group => group.tests.forEach(test => { test.dump = true }))

  const { runTests, getResults } = await load(hasEngine ? engine : suite, 'client', 'runner.mjs')
  const end = () => {
    for (const [id, result] of Object.entries(getResults())) {
      if (result === true) tell('passed', id)
      else tell('failed', id, ...(Array.isArray(result) ? result : [result]))
    }
    process.exit()
  }
  setInterval(() => tell('ended', Object.keys(getResults()).length), PROGRESS)
  setTimeout(end, Number(seconds) * 1000)
  if (hasEngine) {
    await runTests(picked, false, base, Number(atOnce))
  } else {
    const fetch = createRequire(path.join(suite, 'package.json'))('node-fetch')
    await runTests(picked, fetch, false, base, Number(atOnce))
  }
  end()
}
