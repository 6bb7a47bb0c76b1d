"""Short runs of equal length on CIFAR-10, one for each means against emblems, a longer one, and a report of all.

    nohup python -m benchmarks.swaps > runs/swaps.log 2>&1 &

One run after the other, in runs/swaps/; called again, it leaves out finished runs and resumes a stopped one. On two
cores (AMD EPYC, AVX-512) 2 to 5 minutes for each classifier, 14 to 17 for a VAE, and an hour for the longer run.
"""

import pathlib
import subprocess
import sys

from common.workdir import is_finished

FOLDER = pathlib.Path('runs/swaps')
HELD_OUT = ('--config.data.validation_examples=5000', '--config.eval_every_epochs=0')
SHORT = ('--config.model.width=16', '--config.num_epochs=2', f'--config.judge_workdir={FOLDER / "judge"}')
ROBUST = ('vae_cifar10', *SHORT, f'--config.classifier_workdir={FOLDER / "robust"}', '--config.show.noise=0.0')
LONG = (
    'vae_cifar10_robust',
    *SHORT,
    f'--config.classifier_workdir={FOLDER / "robust"}',
    f'--config.second_workdir={FOLDER / "noised"}',
)
ALL = (*LONG, '--config.coarse_weight=200.0')
LIGHT = ('--config.swap_weight=300.0', '--config.adversaries.swap=100.0')
HEAVY = ('--config.swap_weight=1000.0', '--config.adversaries.swap=400.0')
RUNS = {
    'judge': ('judge_cifar10', '--config.model.width=24', '--config.num_epochs=3'),
    'robust': ('classifier_cifar10_robust', '--config.model.width=16', '--config.num_epochs=5'),
    'vae_robust': ROBUST,
    'vae_robust_discriminator': (*ROBUST, '--config.adversaries.swap=100.0'),
    'vae_robust_coarse': (*ROBUST, '--config.coarse_weight=200.0'),
    'vae_robust_coarse_discriminator': (*ROBUST, '--config.coarse_weight=200.0', '--config.adversaries.swap=100.0'),
    'noised': ('classifier_cifar10', '--config.model.width=16', '--config.num_epochs=5'),
    'vae_noised': ('vae_cifar10', *SHORT, f'--config.classifier_workdir={FOLDER / "noised"}'),
    'vae_together': (*ALL, *LIGHT, '--config.model.modulated=False'),
    'vae_damped': (*ALL, *LIGHT),
    'vae_weights': (*ALL, *HEAVY),
    'vae_adversary': (*ALL, '--config.swap_weight=1000.0', '--config.adversaries.swap=1000.0'),
    'vae_latent': (*ALL, *HEAVY, '--config.adversaries.latent=100.0'),
    'vae_cycle': (*ALL, *HEAVY, '--config.cycle_weight=0.3'),
    'vae_long': (*LONG, '--config.num_epochs=10'),
}


def commands() -> dict[str, list[str]]:
    """The flags of each run, by name, in their order."""
    return {
        name: [f'--config=configs/{config}.py', *HELD_OUT, *flags, f'--workdir={FOLDER / name}']
        for name, (config, *flags) in RUNS.items()
    }


def main() -> None:
    report = ['--mode=report', f'--runs={FOLDER}/vae_*', f'--output={FOLDER}/report']
    left = [command for name, command in commands().items() if not is_finished(FOLDER / name)]
    for command in [*left, report]:
        print('python main.py', *command, flush=True)
        if status := subprocess.run([sys.executable, 'main.py', *command]).returncode:
            sys.exit(status)


if __name__ == '__main__':
    main()
