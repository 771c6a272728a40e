//! Plays seeds of the simulator from the command line.

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use windlass_sim::{Cut, Plant, Play, catch, replay_command, search, shrink, story};

/// Plays the production engine in a simulated world, seed by seed.
#[derive(Parser)]
struct Arguments {
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    first_seed: u64,
    /// How many seeds, one after the other.
    #[arg(long, default_value_t = 10_000)]
    seeds: u64,
    /// Tell the story of the task concerned of each seed that breaks something; of a single seed, in any case.
    #[arg(long)]
    trace: bool,
    /// Tell all of the story: each answer and event that each engine was given.
    #[arg(long)]
    full: bool,
    /// Instead: plant each known fault into the test bed, and tell after how many seeds which checker catches it.
    #[arg(long)]
    plants: bool,
    /// Threads; by default one for each core.
    #[arg(long)]
    jobs: Option<usize>,
    /// Stop after so many seeds that break something.
    #[arg(long, default_value_t = 1)]
    enough: usize,
    /// Plant this fault into the test bed.
    #[arg(long)]
    plant: Option<Plant>,
    /// Leave these faults out, by name, with commas between.
    #[arg(long, value_delimiter = ',', value_parser = clap::builder::PossibleValuesParser::new(Cut::names()))]
    without: Vec<String>,
    /// So many tasks at most.
    #[arg(long)]
    tasks: Option<usize>,
    /// So many daemons at most.
    #[arg(long)]
    daemons: Option<usize>,
    /// So many schedulers at most.
    #[arg(long)]
    schedulers: Option<usize>,
}

impl Arguments {
    fn play(&self) -> Play {
        let without = self.without.iter().cloned().collect();
        let cut = Cut { without, tasks: self.tasks, daemons: self.daemons, schedulers: self.schedulers };
        Play { seed: self.first_seed, plant: self.plant, cut }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let jobs = arguments.jobs.or_else(|| std::thread::available_parallelism().ok().map(Into::into));
    if arguments.plants {
        return plants(arguments.seeds, jobs.unwrap_or(1));
    }
    if arguments.trace && arguments.seeds == 1 {
        print!("{}", story(&arguments.play(), arguments.full));
    }
    let began = Instant::now();
    let found = search(&arguments.play(), arguments.seeds, jobs.unwrap_or(1), arguments.enough);
    let seconds = began.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let rate = found.runs as f64 / seconds;
    println!(
        "{} seeds in {seconds:.1} s ({rate:.0}/s): {} events, {} launches, {} bodies, {} broken",
        found.runs,
        found.events,
        found.launches,
        found.bodies,
        found.broken.len()
    );
    if arguments.seeds > 1 {
        println!("starting workers found their row: {:?}", found.looks);
    }
    for run in &found.broken {
        if let Some(broken) = &run.broken {
            let play = Play { seed: run.seed, ..arguments.play() };
            println!("seed {}: {broken}\n  replay: {}", run.seed, replay_command(&play));
            if arguments.seeds > 1 {
                show_shortest(&play, &arguments);
            }
        }
    }
    if found.broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The same rule broken with as little as it takes: what a reader wants to see.
fn show_shortest(play: &Play, arguments: &Arguments) {
    let least = shrink(play);
    if least != *play {
        println!("  shortest: {}", replay_command(&least));
    }
    if arguments.trace {
        print!("{}", story(&least, arguments.full));
    }
}

/// The table of planted faults, as the README has it.
fn plants(seeds: u64, jobs: usize) -> ExitCode {
    let mut missed = 0;
    println!("| planted fault | caught by | in seed | what was seen |\n|---|---|---|---|");
    for plant in Plant::ALL {
        let caught = catch(plant, seeds, jobs).and_then(|run| run.broken.map(|broken| (run.seed, broken)));
        match caught {
            Some((seed, broken)) => println!("{}", plant.row(seed, &broken)),
            None => {
                missed += 1;
                println!("| `{plant}` | not caught | {seeds} seeds | |");
            }
        }
    }
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
